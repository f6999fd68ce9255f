use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::cli;
use crate::data::{Dataset, Example, Examples, Input, in_batches};
use crate::flags::fault;
use crate::shard::{self, Segments, Special};
use crate::text::Tokenizer;

/// Hands on all examples in order, with their token ids where there is a tokenizer.
pub fn each(
    examples: Examples,
    tokenizer: Option<&Tokenizer>,
    mut take: impl FnMut(Example, &[u32]) + Send,
) -> Result<()> {
    let Some(tokenizer) = tokenizer else {
        for example in examples {
            take(example?, &[]);
        }
        return Ok(());
    };
    in_batches(
        examples,
        |texts| tokenizer.encode_batch(texts),
        |example, encoded| {
            take(example, &encoded.tokens);
            Ok(())
        },
    )
}

/// Opens the data, hands it on, and says what was to be said of it before and after it was read.
pub fn with_data<T>(
    input: &Input,
    dir: &Path,
    read: impl FnOnce(Dataset) -> Result<T>,
) -> Result<T> {
    let data = input.open(dir)?;
    let (skipped, dropped) = (data.skipped.clone(), data.dropped.clone());
    let done = read(data)?;
    skipped.some().iter().for_each(cli::warn);
    dropped.iter().for_each(cli::note);
    Ok(done)
}

/// The segments of what `input` names if it is files that hold token shards, and what to call them.
pub fn shards(input: &Input) -> Result<Option<(String, Vec<Segments>)>> {
    let mut found = Vec::new();
    for path in input.source.iter().map(Path::new) {
        if !path.is_file() {
            return Ok(None);
        }
        match shard::shard_or_text(path)? {
            shard::Input::Shard(segments) => found.push(segments),
            shard::Input::Text(_) => return Ok(None),
        }
    }
    Ok(Some((input.source.join(" "), found)))
}

/// Fails where the tokens of `source` are not those of `tokenizer`, as sha256 of its tokenizer.json.
pub fn check_tokenizer(source: &str, found: &str, tokenizer: &str) -> Result<()> {
    ensure!(
        found == tokenizer,
        "{source}: written with another tokenizer ({found:.12} against {tokenizer:.12})"
    );
    Ok(())
}

/// Hands on every text of a data set or a token shard, with its token ids where there is a tokenizer. The text of a
/// shard is decoded, special tokens left out.
pub fn each_text(
    input: &Input,
    dir: &Path,
    tokenizer: Option<&Tokenizer>,
    mut take: impl FnMut(Example, &[u32]) + Send,
) -> Result<()> {
    let Some((name, segments)) = shards(input)? else {
        return with_data(input, dir, |data| each(data.examples, tokenizer, take));
    };
    let Some(tokenizer) = tokenizer else {
        let cure = "its words are read with --tokenizer, the one that wrote it";
        bail!(fault(format!("{name}: is a token shard"), cure));
    };
    for segment in segments.into_iter().flatten() {
        let segment = segment?;
        check_tokenizer(&name, &segment.header().tokenizer, tokenizer.digest())?;
        for i in 0..segment.len() {
            let view = segment.view(i);
            let tokens: Vec<u32> = view.tokens.iter().collect();
            let (text, row) = (tokenizer.decode(&tokens)?, view.row);
            take(Example { text, pair: None, label: None, row }, &tokens);
        }
    }
    Ok(())
}

/// Tokens that stand for text, and how many of them for text the vocabulary cannot spell.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Pieces {
    pub all: u64,
    pub unknown: u64,
}

impl Pieces {
    pub fn add(&mut self, tokens: &[u32], special: &Special) {
        let unknown = |token: &&u32| special.unk == Some(**token);
        let text = |token: &&u32| unknown(token) || !special.all.contains(token);
        self.all += tokens.iter().filter(text).count() as u64;
        self.unknown += tokens.iter().filter(unknown).count() as u64;
    }
}
