//! The log of a run: JSON lines, appended.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// `DIR/log.jsonl`, open for appending.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl Log {
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("log.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self { file: file.with_context(|| path.display().to_string())? })
    }

    /// Appends one event, in one write.
    pub fn write(&mut self, event: &Value) -> Result<()> {
        self.file.write_all(format!("{event}\n").as_bytes()).context("log.jsonl")
    }
}
