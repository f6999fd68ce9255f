//! The log of a run: JSON lines, appended.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use crate::native::{max_memory_allocated, max_rss};
use crate::tensorboard::EventFile;

/// `DIR/log.jsonl`, open for appending, and TensorBoard's files of the same, if they are wanted.
#[derive(Debug)]
pub struct Log {
    file: File,
    events: Option<EventFile>,
}

impl Log {
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("log.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self { file: file.with_context(|| path.display().to_string())?, events: None })
    }

    /// From here on events go to a file of TensorBoard's in `dir`, too.
    pub fn show(&mut self, dir: &Path) -> Result<()> {
        self.events = Some(EventFile::open(dir)?);
        Ok(())
    }

    /// Like `write`, with the memory held at most so far: resident, and by tensors on the GPU that computes.
    pub fn measured(&mut self, mut event: Value, device: Device) -> Result<()> {
        let most = [("max_rss", max_rss()), ("max_memory_allocated", max_memory_allocated(device))];
        for (key, bytes) in most {
            bytes.into_iter().for_each(|bytes| event[key] = json!(bytes));
        }
        self.write(&event)
    }

    /// Appends one event, in one write.
    pub fn write(&mut self, event: &Value) -> Result<()> {
        self.file.write_all(format!("{event}\n").as_bytes()).context("log.jsonl")?;
        self.events.iter_mut().try_for_each(|events| events.write(event))
    }
}

/// Who follows a run learns that it panicked, as for want of a GPU's memory.
impl Drop for Log {
    fn drop(&mut self) {
        if thread::panicking() {
            let cause = "it panicked, which it said on standard error";
            let _ = self.write(&json!({"event": "fail", "cause": cause}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_end_of_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        log.write(&json!({"event": "run"})).unwrap();
        drop(log);
        let log = Log::open(dir.path()).unwrap();
        let run = thread::spawn(move || {
            let _log = log;
            panic!("no memory");
        });
        assert!(run.join().is_err());
        let lines = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, r#"{"event":"run"}"#));
        assert!(lines[1].contains(r#""event":"fail""#), "{}", lines[1]);
    }
}
