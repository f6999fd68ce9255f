//! Work that is done ahead, on a thread of its own.

use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, SyncSender, TryIter};
use std::thread::{self, JoinHandle};

/// What a thread makes, in order. Where the thread panics, who takes panics too.
pub struct Ahead<T> {
    made: Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Begins `work`, which sends what it makes and finds `room` for so many that nobody took yet. It ends where sending
    /// fails: nobody is there to tell.
    pub fn new(room: usize, work: impl FnOnce(SyncSender<T>) + Send + 'static) -> Self {
        let (send, made) = mpsc::sync_channel(room);
        Self { made, thread: Some(thread::spawn(move || work(send))) }
    }

    /// What is there already.
    pub fn there(&self) -> TryIter<'_, T> {
        self.made.try_iter()
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let next = self.made.recv().ok();
        if next.is_none()
            && let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
        {
            resume_unwind(panic);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_panic_is_handed_on() {
        let found = catch_unwind(|| {
            let mut ahead = Ahead::new(0, |send| {
                send.send(1).unwrap();
                panic!("no");
            });
            assert_eq!(ahead.next(), Some(1));
            ahead.next()
        });
        assert_eq!(found.unwrap_err().downcast_ref(), Some(&"no"));
    }
}
