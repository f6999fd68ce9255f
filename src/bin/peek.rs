use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use plain::cli::{self, Talk};
use plain::peek::{self, Look};

/// Look into a file.
///
/// Writes JSON lines: for each segment of a token shard what it says of itself,
/// then its first sequences, decoded where a tokenizer is given, with what their
/// masks hide; for a checkpoint, an adapter or vectors, what it is and its
/// tensors, and the first vectors. Reads no more of a file than that takes.
///
///   prep sample --tokenizer tok | mask | peek -n 3 --tokenizer tok
///   mask --unit span train.tok | peek -n 0 --stats | tail -n 1
///   peek runs/tapt --digest
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// A token shard, a safetensors file, or a model directory; `-` is a shard on standard input
    #[arg(default_value = "-")]
    path: PathBuf,

    #[command(flatten)]
    look: Look,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    let mut out = cli::text_output(None)?;
    peek::peek(&args.path, &args.look, &mut out)?;
    out.commit()
}
