//! The texts a model has met, in a file beside its weights.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::durable::write_beside;
use crate::shard::Manifest;

/// What the model in `dir` has met, as far as a program of ours wrote it down.
pub fn read_texts(dir: &Path) -> Result<Manifest> {
    let path = dir.join(Manifest::FILE);
    let read = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Manifest::default()),
        bytes => bytes.map_err(Into::into).and_then(|bytes| Manifest::from_bytes(&bytes)),
    };
    read.with_context(|| path.display().to_string())
}

pub fn write_texts(dir: &Path, texts: &Manifest) -> Result<()> {
    write_beside(&dir.join(Manifest::FILE), &texts.to_bytes()?)
}
