//! What a file is: its header, its counts, its first records. As little of it is read as that takes.

mod shard;
mod tensors;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::flags::usage;
use crate::shard::Layout;

/// What to show of a file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Look {
    /// Records to show: sequences of each segment, texts of vectors
    #[arg(short, default_value_t = 2)]
    pub n: usize,

    /// The tokenizer to decode with, if it is the shard's
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,

    /// Count over the whole shard: lengths, labels, and what its masks are like. Reads and checks all of it
    #[arg(long)]
    pub stats: bool,

    /// Give the sha256 of the file. Reads all of it
    #[arg(long)]
    pub digest: bool,
}

/// Writes JSON lines on what `path` is; `-` is a shard on standard input.
pub fn peek(path: &Path, look: &Look, out: &mut dyn Write) -> Result<()> {
    let Some(file) = tensors(path) else { return shard::show(path, look, out) };
    let named = || file.display().to_string();
    let layout = Layout::open(&file).with_context(named)?;
    if layout.is_shard() {
        return shard::show(&file, look, out);
    }
    let shards_only = [(look.stats, "--stats"), (look.tokenizer.is_some(), "--tokenizer")];
    for (given, flag) in shards_only {
        ensure!(!given, usage(format!("{flag}: {} is no token shard", file.display())));
    }
    tensors::show(&file, &layout, look.n, out).with_context(named)?;
    if look.digest {
        let sha256 = digest(&file).with_context(named)?;
        writeln!(out, "{}", json!({"file": file, "sha256": sha256}))?;
    }
    Ok(())
}

/// The safetensors file that `path` is or holds; nothing for a pipe.
fn tensors(path: &Path) -> Option<PathBuf> {
    let inside = ["model.safetensors", "adapter_model.safetensors", "adapter.safetensors"];
    let inside = inside.map(|name| path.join(name));
    if path.is_dir() {
        return Some(inside.into_iter().find(|file| file.exists()).unwrap_or(path.to_owned()));
    }
    path.is_file().then(|| path.to_owned())
}

fn digest(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}
