use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use plain::cli::{self, Progress, Talk};
use plain::layers::{Probing, Study, Vectors};

/// What a model's layers know of the classes, and how alike two models are.
///
/// Reads vectors that embed --layer all wrote. For every layer: the accuracy of
/// a linear probe, which learns by cross-validation within the file or, with
/// --train, from another; the silhouette of the classes; and with a second
/// model's vectors of the same texts, linear CKA of each layer with the same of
/// the other.
///
///   embed base test.tok --layer all --pool mean -o base.safetensors
///   embed tapt test.tok --layer all --pool mean -o tapt.safetensors
///   layers base.safetensors tapt.safetensors
///   layers tapt.safetensors --train tapt-train.safetensors --json
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// Vectors of one model, or of two
    #[arg(required = true, num_args = 1..=2, value_names = ["A", "B"])]
    files: Vec<PathBuf>,

    /// Vectors of labelled texts that the probes learn from, in the place of folds; once for each model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["folds", "seed"])]
    train: Vec<PathBuf>,

    #[command(flatten)]
    probing: Probing,

    /// Also CKA of every layer with every other: of A with B, of one model with itself
    #[arg(long)]
    matrix: bool,

    /// Write a JSON object in the place of the table
    #[arg(long)]
    json: bool,

    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = plain::flags::threads)]
    threads: Option<usize>,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    cli::threads(args.threads)?;
    let open = |paths: &[PathBuf]| -> Result<Vec<Vectors>> {
        paths.iter().map(|path| Vectors::open(path)).collect()
    };
    let mut study = Study::new(open(&args.files)?, open(&args.train)?, args.probing)?;
    let mut bar = Progress::new("layers", study.count());
    let mut done = 0;
    study.measure(args.matrix, &mut || {
        bar.set(done, String::new);
        done += 1;
    })?;
    bar.finish();
    let mut out = cli::text_output(None)?;
    match args.json {
        true => writeln!(out, "{}", study.to_json())?,
        false => write!(out, "{}", study.text())?,
    }
    out.commit()
}
