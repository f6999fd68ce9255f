//! Lines on their way in, read ahead on a thread of their own.

use std::io::{self, BufRead};
use std::iter;
use std::sync::{Arc, Condvar, Mutex};

use anyhow::Result;

use super::ahead::Ahead;
use super::line::{Line, text_lines};

/// Lines read ahead at most.
const AHEAD: usize = 256;
/// Bytes of text after which no further line is read ahead, nor taken along.
const BYTES: usize = 1 << 22;

/// What was read, and how the input ended if it did.
pub type Taken = (Vec<Line>, Option<Result<()>>);

/// The lines of an input, as they come. A bad line does not take the good ones before it along.
pub struct Arriving {
    lines: Ahead<Result<Line>>,
    held: Arc<Held>,
}

/// Bytes of the lines that were read and not taken yet.
#[derive(Default)]
struct Held {
    bytes: Mutex<usize>,
    fewer: Condvar,
}

impl Held {
    /// Waits until there is room, and takes it.
    fn add(&self, bytes: usize) {
        let Ok(held) = self.bytes.lock() else { return };
        let held = self.fewer.wait_while(held, |held| *held >= BYTES);
        held.into_iter().for_each(|mut held| *held = held.saturating_add(bytes));
    }

    fn take(&self, bytes: usize) {
        self.bytes.lock().into_iter().for_each(|mut held| *held = held.saturating_sub(bytes));
        self.fewer.notify_one();
    }
}

fn size(line: &Result<Line>) -> usize {
    let size = |line: &Line| line.text.len() + line.pair.as_deref().map_or(0, str::len);
    line.as_ref().map_or(0, size)
}

impl Arriving {
    /// Begins to read; errors say `name:LINE: cause`.
    pub fn new(name: &str, reader: impl BufRead + Send + 'static) -> Self {
        Self::of(text_lines(name, reader))
    }

    /// The same, but bad lines are left out, and `tell` hears of them: their number, from 1, and what is wrong. Where the
    /// rest cannot be read it ends with an error all the same.
    pub fn skipping(
        name: &str,
        reader: impl BufRead + Send + 'static,
        mut tell: impl FnMut(u64, String) + Send + 'static,
    ) -> Self {
        let lines = text_lines(name, reader).zip(1..);
        Self::of(lines.filter_map(move |(line, number)| match line {
            Err(error) if !error.chain().any(|cause| cause.is::<io::Error>()) => {
                tell(number, error.root_cause().to_string());
                None
            }
            line => Some(line),
        }))
    }

    fn of(mut lines: impl Iterator<Item = Result<Line>> + Send + 'static) -> Self {
        let held = Arc::new(Held::default());
        let own = held.clone();
        let lines = Ahead::new(AHEAD, move |send| {
            // Where nobody takes them any more, there is nobody to tell.
            let _ = lines.try_for_each(|line| {
                own.add(size(&line));
                send.send(line)
            });
        });
        Self { lines, held }
    }

    /// The lines that are there, at least one and at most `most`: who writes a line gets its answer without writing more.
    pub fn some(&mut self, most: usize) -> Taken {
        let first = self.lines.next();
        let rest = self.lines.there();
        take(first, rest, most, &self.held)
    }

    /// `most` lines, fewer only at the end, or where they are long.
    pub fn full(&mut self, most: usize) -> Taken {
        let first = self.lines.next();
        take(first, &mut self.lines, most, &self.held)
    }
}

impl Drop for Arriving {
    /// The thread that reads sees that it is not wanted any more.
    fn drop(&mut self) {
        self.held.take(usize::MAX);
    }
}

fn take(
    first: Option<Result<Line>>,
    rest: impl Iterator<Item = Result<Line>>,
    most: usize,
    held: &Held,
) -> Taken {
    let Some(first) = first else { return (Vec::new(), Some(Ok(()))) };
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for line in iter::once(first).chain(rest).take(most) {
        bytes += size(&line);
        held.take(size(&line));
        match line {
            Ok(line) => lines.push(line),
            Err(error) => return (lines, Some(Err(error))),
        }
        if bytes >= BYTES {
            break;
        }
    }
    (lines, None)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write, pipe};

    use super::*;

    #[test]
    fn a_line_is_there_before_the_next_is_written() {
        let (reader, mut writer) = pipe().unwrap();
        let mut lines = Arriving::new("f", BufReader::new(reader));
        for text in ["one", "two"] {
            writeln!(writer, "{text}").unwrap();
            let (some, end) = lines.some(10);
            assert_eq!((some[0].text.as_str(), some.len(), end.is_none()), (text, 1, true));
        }
        drop(writer);
        assert!(matches!(lines.some(10), (none, Some(Ok(()))) if none.is_empty()));
    }

    #[test]
    fn good_lines_come_before_a_bad_one() {
        let mut lines = Arriving::new("f", &b"a\nb\nc\n\xff\nd\n"[..]);
        let (some, end) = lines.full(2);
        assert_eq!((some.len(), end.is_none()), (2, true));
        let (some, end) = lines.full(9);
        let error = end.unwrap().unwrap_err();
        assert_eq!((some[0].text.as_str(), some.len()), ("c", 1));
        assert_eq!(format!("{error:#}"), "f:4: not UTF-8: byte 1 is 0xff");
    }

    #[test]
    fn bad_lines_are_left_out_and_told() {
        let (told, heard) = std::sync::mpsc::channel();
        let bytes = b"a\n\xff\n{\"pair\":1}\nb\n";
        let tell = move |line, cause| told.send((line, cause)).unwrap();
        let (some, _) = Arriving::skipping("f", &bytes[..], tell).full(9);
        assert_eq!(some.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let heard: Vec<(u64, String)> = heard.iter().collect();
        let wanted = [
            (2, "not UTF-8: byte 1 is 0xff"),
            (3, "invalid type: integer `1`, expected a string at column 9"),
        ];
        assert_eq!(heard, wanted.map(|(line, cause)| (line, cause.to_owned())));
    }

    struct Broken;

    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_left_out() {
        let reader = io::BufReader::new(io::Read::chain(&b"a\n"[..], Broken));
        let (some, end) = Arriving::skipping("f", reader, |_, _| ()).full(9);
        assert_eq!(some.len(), 1);
        assert_eq!(format!("{:#}", end.unwrap().unwrap_err()), "f:2: gone");
    }

    #[test]
    fn long_lines_are_fewer() {
        let text = format!("{0}\n{0}\n{0}\n", "a".repeat(BYTES / 2));
        let mut lines = Arriving::new("f", std::io::Cursor::new(text));
        assert_eq!(lines.full(9).0.len(), 2);
        assert_eq!(lines.full(9).0.len(), 1);
    }
}
