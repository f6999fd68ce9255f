use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use plain::cli::{self, Output, Talk};
use plain::shard::{Segment, layout, segments};
use plain::text::Tokenizer;
use safetensors::tensor::Metadata;
use serde_json::{Value, json};

/// Look into a file.
///
/// Writes JSON lines: for each segment of a token shard what it says of itself,
/// then its first sequences, decoded where a tokenizer is given; for a
/// checkpoint, an adapter or vectors, the tensors.
///
///   prep sample --tokenizer tok | mask | peek -n 3 --tokenizer tok
///   peek runs/tapt
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// A token shard, a safetensors file, or a model directory; `-` is a shard on standard input
    #[arg(default_value = "-")]
    path: PathBuf,

    /// Sequences to show of each segment
    #[arg(short, default_value_t = 2)]
    n: usize,

    /// The tokenizer to decode with, if it is the shard's
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    let mut out = cli::text_output(None)?;
    match weights(&args.path) {
        Some(file) => {
            let header = layout(&file).with_context(|| file.display().to_string())?;
            if !is_shard(&header) {
                return show_tensors(&file, &header, out);
            }
            show_shard(&args, &file, &mut out)?;
        }
        None => show_shard(&args, &args.path, &mut out)?,
    }
    out.commit()
}

/// The safetensors file that `path` is or holds; nothing for a pipe.
fn weights(path: &Path) -> Option<PathBuf> {
    let inside = ["model.safetensors", "adapter_model.safetensors"].map(|name| path.join(name));
    if path.is_dir() {
        return Some(inside.into_iter().find(|file| file.exists()).unwrap_or(path.to_owned()));
    }
    path.is_file().then(|| path.to_owned())
}

fn is_shard(header: &Metadata) -> bool {
    let about = header.metadata().as_ref();
    about.and_then(|about| about.get("format")).is_some_and(|format| format == "tapt")
}

fn show_tensors(file: &Path, header: &Metadata, mut out: Output) -> Result<()> {
    let infos = header.tensors();
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let parameters: usize = infos.values().map(|info| count(&info.shape)).sum();
    let about = header.metadata().clone().unwrap_or_default();
    let about: std::collections::BTreeMap<_, _> = about.into_iter().collect();
    let line = json!({"file": file, "tensors": infos.len(), "values": parameters, "bytes": header.data_len(),
        "metadata": about});
    writeln!(out, "{line}")?;
    for name in header.offset_keys() {
        let info = infos[&name];
        writeln!(out, "{}", json!({"tensor": name, "dtype": info.dtype, "shape": info.shape}))?;
    }
    out.commit()
}

fn show_shard(args: &Args, path: &Path, out: &mut Output) -> Result<()> {
    let tokenizer = args.tokenizer.as_deref().map(Tokenizer::open).transpose()?;
    for segment in segments(path)? {
        let segment = segment?;
        if let Some(tokenizer) = &tokenizer {
            let fits = tokenizer.digest() == segment.header().tokenizer;
            ensure!(fits, "{}: written with another tokenizer", path.display());
        }
        writeln!(out, "{}", about(&segment))?;
        for i in 0..segment.len().min(args.n) {
            writeln!(out, "{}", sequence(&segment, i, tokenizer.as_ref())?)?;
        }
    }
    Ok(())
}

fn about(segment: &Segment) -> Value {
    let header = segment.header();
    let mut about = json!({
        "kind": if segment.masked_by().is_some() { "masked" } else { "tokens" },
        "sequences": segment.len(), "tokens": segment.tokens().len(), "bytes": segment.bytes().len(),
        "tokenizer": header.tokenizer, "vocab_size": header.vocab_size, "max_length": header.max_length,
        "special": header.special, "pairs": segment.is_pairs(), "labels": segment.labels(),
        "source": header.source, "command": header.command,
    });
    if let Some(by) = segment.masked_by() {
        about["masked"] = json!(segment.masked_len());
        about["masking"] = json!(by.masking);
        about["seed"] = json!(by.seed);
        about["epoch"] = json!(by.epoch);
    }
    about
}

fn sequence(segment: &Segment, i: usize, tokenizer: Option<&Tokenizer>) -> Result<Value> {
    let view = segment.view(i);
    let tokens: Vec<u32> = view.tokens.iter().collect();
    let mut line =
        json!({"row": view.row, "label": view.label.map(|label| &segment.labels()[label])});
    if let Some(second) = view.second {
        line["second"] = json!(second);
    }
    line["tokens"] = json!(tokens);
    if segment.masked_by().is_some() {
        line["masked"] = view.masked().collect();
        line["targets"] = view.targets.iter().collect();
    }
    if let Some(tokenizer) = tokenizer {
        line["text"] = json!(tokenizer.decode(&tokens)?);
        line["hidden"] = view.targets.iter().map(|id| tokenizer.token(id)).collect();
    }
    Ok(line)
}
