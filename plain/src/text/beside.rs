use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;

/// Files of a directory that appear in it together: they are written in a directory of their own, then moved, in the
/// order they were begun.
pub struct Beside {
    beside: TempDir,
    dir: PathBuf,
    names: Vec<String>,
}

impl Beside {
    /// Begins in `dir`, which is made if it is not there.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut builder = tempfile::Builder::new();
        let beside = builder.prefix(".tokenizer.").suffix(".partial").tempdir_in(dir)?;
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
        Ok(fs::write(self.file(name), bytes)?)
    }

    pub fn write_json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.write(name, serde_json::to_string_pretty(value)? + "\n")
    }

    /// Gives the files their places.
    pub fn finish(self) -> Result<()> {
        let moved = |name: &String| fs::rename(self.path().join(name), self.dir.join(name));
        Ok(self.names.iter().try_for_each(moved)?)
    }
}
