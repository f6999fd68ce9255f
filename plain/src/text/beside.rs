use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::FILES;

/// A tokenizer's files, and others, that appear in a directory together: they are written in one of their own, then
/// moved, in the order they were begun. Errors name the place a file was to have.
pub struct Beside {
    beside: TempDir,
    dir: PathBuf,
    names: Vec<String>,
}

impl Beside {
    /// Begins in `dir`, which is made if it is not there.
    pub fn new(dir: &Path) -> Result<Self> {
        let named = || dir.display().to_string();
        fs::create_dir_all(dir).with_context(named)?;
        let mut builder = tempfile::Builder::new();
        let beside =
            builder.prefix(".tokenizer.").suffix(".partial").tempdir_in(dir).with_context(named)?;
        Ok(Self { beside, dir: dir.to_owned(), names: Vec::new() })
    }

    /// Where the files lie until they are moved.
    pub fn path(&self) -> &Path {
        self.beside.path()
    }

    /// Where to write the file `name`.
    pub fn file(&mut self, name: &str) -> PathBuf {
        self.names.push(name.to_owned());
        self.path().join(name)
    }

    pub fn write(&mut self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        fs::write(self.file(name), bytes).with_context(|| self.named(name))
    }

    pub fn write_json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.write(name, serde_json::to_string_pretty(value)? + "\n")
    }

    /// Where a file is to be, for messages.
    pub fn named(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Gives the files their places. What another tokenizer left there goes: it would be read along with this one.
    pub fn finish(self) -> Result<()> {
        for name in FILES.iter().filter(|name| !self.names.iter().any(|own| own == *name)) {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| self.named(name));
                }
                _ => {}
            }
        }
        let moved = |name: &String| {
            let done = fs::rename(self.path().join(name), self.dir.join(name));
            done.with_context(|| self.named(name))
        };
        self.names.iter().try_for_each(moved)
    }
}
