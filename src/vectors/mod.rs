//! Texts to vectors, in memory that does not grow with them: windows of sequences that are encoded ahead of the model,
//! and the files that vectors are written to as they come.

mod file;
mod lines;
mod making;
mod windows;

use std::path::Path;

use anyhow::Result;

use crate::cli;
use file::VectorFile;
use lines::VectorLines;
pub use making::make;
pub use windows::{Limits, Source, Window, Windows};

/// Where vectors go.
pub enum Sink {
    Lines(VectorLines),
    File(Box<VectorFile>),
}

/// The vectors of a window, texts in its order.
pub struct Vectors {
    /// Row of each text.
    pub rows: Vec<u64>,
    /// Class of each text, where it has one.
    pub labels: Vec<Option<String>>,
    /// Vectors of each text: 1, or where they are not pooled, its tokens.
    pub counts: Vec<usize>,
    /// All of them, end to end.
    pub numbers: Vec<f32>,
}

impl Sink {
    /// A safetensors file where one is named, else JSON lines on standard output. `shape` is that of one vector, and
    /// `pooled` whether a text has just one.
    pub fn open(path: Option<&Path>, shape: Vec<usize>, pooled: bool) -> Result<Self> {
        Ok(match path {
            None => Self::Lines(VectorLines::new(cli::text_output(None)?, shape, pooled)),
            Some(path) => {
                Self::File(Box::new(VectorFile::begin(cli::output(Some(path))?, shape, pooled)?))
            }
        })
    }

    /// Writes the next vectors.
    pub fn write(&mut self, vectors: &Vectors) -> Result<()> {
        match self {
            Self::Lines(lines) => lines.write(vectors),
            Self::File(file) => file.write(vectors),
        }
    }

    /// Ends it; a file appears under its name only now.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Lines(lines) => lines.finish(),
            Self::File(file) => file.finish(),
        }
    }
}
