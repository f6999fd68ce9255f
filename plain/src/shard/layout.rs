//! What a safetensors file holds, from its header alone.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use safetensors::tensor::Metadata;

use super::segment::Segment;

/// The header of the file, or of its first segment; nothing else of a large file is read.
pub fn layout(path: &Path) -> Result<Metadata> {
    ensure!(!path.is_dir(), "no model.safetensors or adapter_model.safetensors in it");
    let mut file = File::open(path)?;
    let mut head = [0; 8];
    let whole = file.metadata()?.len();
    if file.read_exact(&mut head).is_err() {
        bail!("too short for a safetensors file");
    }
    let mut json = Vec::new();
    let len = Segment::header_len(head)?;
    file.take(len as u64).read_to_end(&mut json)?;
    if json.len() < len {
        bail!("it ends inside its header");
    }
    let (layout, tensors) = Segment::parse_header(&json)?;
    let wanted = (8 + len + tensors) as u64;
    // A shard may go on after its first segment.
    ensure!(whole >= wanted, "it is cut off: {whole} bytes of {wanted}");
    Ok(layout)
}
