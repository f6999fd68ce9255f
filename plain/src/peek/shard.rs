//! Token shards: what each segment says of itself, and its first sequences.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Look;
use crate::shard::{Outline, Segment, Statistics, segments};
use crate::text::Tokenizer;

pub fn show(path: &Path, look: &Look, out: &mut dyn Write) -> Result<()> {
    let tokenizer = look.tokenizer.as_deref().map(Tokenizer::open).transpose()?;
    let (mut hash, mut statistics, mut count) = (Sha256::new(), Statistics::default(), 0u64);
    let mut parts = segments(path)?;
    let wanted = if look.stats { usize::MAX } else { look.n };
    while let Some(outline) = parts.outline(wanted).transpose()? {
        let segment = &outline.first;
        if let Some(tokenizer) = &tokenizer {
            let fits = tokenizer.digest() == segment.header().tokenizer;
            ensure!(fits, "{}: written with another tokenizer", parts.name());
        }
        writeln!(out, "{}", about(&outline))?;
        for i in 0..segment.len().min(look.n) {
            writeln!(out, "{}", sequence(segment, i, tokenizer.as_ref())?)?;
        }
        count += 1;
        if look.digest {
            hash.update(segment.bytes());
        }
        if look.stats {
            statistics.add(segment);
        }
    }
    if look.stats || look.digest {
        let mut whole = json!({"file": path, "segments": count});
        if look.stats {
            whole["stats"] = statistics.to_json();
        }
        if look.digest {
            whole["sha256"] = json!(format!("{:x}", hash.finalize()));
        }
        writeln!(out, "{whole}")?;
    }
    Ok(())
}

fn about(outline: &Outline) -> Value {
    let segment = &outline.first;
    let header = segment.header();
    let mut about = json!({
        "kind": if segment.masked_by().is_some() { "masked" } else { "tokens" },
        "sequences": outline.sequences, "tokens": outline.tokens, "bytes": segment.bytes().len(),
        "tokenizer": header.tokenizer, "vocab_size": header.vocab_size, "max_length": header.max_length,
        "special": header.special, "pairs": segment.is_pairs(), "labels": segment.labels(),
        "source": header.source, "command": header.command,
    });
    if let Some(by) = segment.masked_by() {
        about["masked"] = json!(outline.masked);
        about["masking"] = json!(by.masking);
        about["seed"] = json!(by.seed);
        about["epoch"] = json!(by.epoch);
        about["epochs"] = json!(by.epochs);
        about["draw"] = json!(by.draw);
        about["draws"] = json!(by.draws);
    }
    about
}

fn sequence(segment: &Segment, i: usize, tokenizer: Option<&Tokenizer>) -> Result<Value> {
    let view = segment.view(i);
    let tokens: Vec<u32> = view.tokens.iter().collect();
    let mut line = json!({"row": view.row, "label": segment.label(i)});
    if let Some(second) = view.second {
        line["second"] = json!(second);
    }
    line["tokens"] = json!(tokens);
    let is_masked = segment.masked_by().is_some();
    if is_masked {
        line["masked"] = view.masked().collect();
        line["targets"] = view.targets.iter().collect();
    }
    let Some(tokenizer) = tokenizer else { return Ok(line) };
    if !is_masked {
        line["text"] = json!(tokenizer.decode(&tokens)?);
        return Ok(line);
    }
    let mut original = tokens.clone();
    view.masked().zip(view.targets.iter()).for_each(|(at, target)| original[at] = target);
    line["text"] = json!(tokenizer.decode_masked(&tokens)?);
    line["original"] = json!(tokenizer.decode_masked(&original)?);
    line["hidden"] = view.targets.iter().map(|id| tokenizer.token(id)).collect();
    line["shown"] = view.masked().map(|at| tokenizer.token(tokens[at])).collect();
    Ok(line)
}
