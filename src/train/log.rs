//! The log of a run: JSON lines, appended.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

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
