//! Whether a shard was made for a model.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::Checkpoint;
use crate::flags::fault;
use crate::model::Sizes;
use crate::shard::{Segment, Shard};
use crate::text::Tokenizer;

/// sha256 of the tokenizer in `dir`, hexadecimal.
pub fn tokenizer_digest(dir: &Path) -> Result<String> {
    let path = dir.join("tokenizer.json");
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}

/// The tokenizer of `checkpoint`, cutting texts at the longest sequence its model takes.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let (dir, sizes) = (&checkpoint.dir, checkpoint.sizes());
    let mut tokenizer = Tokenizer::open(dir)?;
    ensure!(
        i64::from(tokenizer.vocab_size()) <= sizes.vocab,
        "{}: its tokenizer has more tokens than the model",
        dir.display()
    );
    tokenizer.truncate(tokenizer.max_length().min(sizes.max_length as u32))?;
    Ok(tokenizer)
}

/// Fails unless the shard was written with the tokenizer in `dir`, and its sequences fit the model.
pub fn fits(shard: &Shard, dir: &Path, sizes: &Sizes) -> Result<()> {
    let (header, own) = (shard.header(), tokenizer_digest(dir)?);
    ensure!(
        header.tokenizer == own,
        fault(
            format!(
                "it was written with another tokenizer ({:.12}) than {} has ({own:.12})",
                header.tokenizer,
                dir.display()
            ),
            format!("run prep with --tokenizer {}", dir.display())
        )
    );
    ensure!(
        i64::from(header.vocab_size) <= sizes.vocab,
        "its vocabulary of {} is larger than the model's {}",
        header.vocab_size,
        sizes.vocab
    );
    ensure!(
        sizes.segments > 1 || !shard.segments().iter().any(Segment::is_pairs),
        "its rows are pairs, and the model tells no second text apart (type_vocab_size 1)"
    );
    let longest = shard.longest() as i64;
    ensure!(
        longest <= sizes.max_length,
        fault(
            format!("it has a sequence of {longest} tokens, the model takes {}", sizes.max_length),
            format!("run prep with --max-length {}", sizes.max_length)
        )
    );
    Ok(())
}
