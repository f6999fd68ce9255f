//! What a safetensors file holds, from its header alone.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use safetensors::tensor::Metadata;

use super::segment::Segment;

/// The header of a safetensors file, or of a shard's first segment.
#[derive(Debug)]
pub struct Layout {
    pub header: Metadata,
    /// Where in the file the tensors begin.
    pub data: u64,
    pub file: File,
}

impl Layout {
    /// Reads the header of `path` and nothing else; fails where the file is shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self> {
        ensure!(!path.is_dir(), "no model.safetensors or adapter_model.safetensors in it");
        let mut file = File::open(path)?;
        let mut head = [0; 8];
        let whole = file.metadata()?.len();
        if file.read_exact(&mut head).is_err() {
            bail!("too short for a safetensors file");
        }
        let mut json = Vec::new();
        let len = Segment::header_len(head)?;
        (&file).take(len as u64).read_to_end(&mut json)?;
        if json.len() < len {
            bail!("it ends inside its header");
        }
        let (header, tensors) = Segment::parse_header(&json)?;
        let layout = Self { header, data: 8 + len as u64, file };
        let wanted = layout.data.saturating_add(tensors as u64);
        ensure!(whole >= wanted, "it is cut off: {whole} bytes of {wanted}");
        // A shard may go on after its first segment.
        let over = whole - wanted;
        ensure!(layout.is_shard() || over == 0, "{over} bytes follow its last tensor");
        Ok(layout)
    }

    pub fn is_shard(&self) -> bool {
        self.about("format").is_some_and(|format| format == "tapt")
    }

    /// An entry of the metadata.
    pub fn about(&self, key: &str) -> Option<&String> {
        self.header.metadata().as_ref()?.get(key)
    }
}
