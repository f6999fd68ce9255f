use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use tapt::checkpoint::{Checkpoint, fits};
use tapt::cli::{self, Output, Talk};
use tapt::flags::usage;
use tapt::native::Compute;
use tapt::predictions::Pair;
use tapt::program::{self, ScoreArgs};
use tapt::shard::Shard;

/// Score a model.
///
/// Reads labelled shards (a classifier is scored) or masked shards (a masked
/// language model is), and writes one JSON line for each. Classes are joined by
/// name: a label the model does not know is an error. Texts in windows (prep
/// --stride) count once each, with the mean of their windows' probabilities.
/// With --compare it tells whether one model's predictions are better than
/// another's.
///
///   evaluate runs/full test.tok > score.json
///   evaluate runs/full test.tok --train train.tok --temperature-from dev.tok
///   mask --seed 7 --draws 5 dev.tok > dev.bin; evaluate enc/tapt dev.bin
///   evaluate --compare a.jsonl b.jsonl
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The model (unless --model names it), then the shards to score it on
    #[arg(required_unless_present_any = ["compare", "differences"], value_name = "MODEL SHARD")]
    paths: Vec<PathBuf>,

    /// The model: a Hugging Face directory, an adapter, or org/name[@revision] on the hub
    #[arg(long)]
    model: Option<PathBuf>,

    /// The base of an adapter, where it lies elsewhere than when it was trained
    #[arg(long)]
    base: Option<PathBuf>,

    /// An adapter to put on the model, which is its base then; several are scored in turn
    #[arg(long, value_name = "DIR", conflicts_with = "base")]
    adapter: Vec<PathBuf>,

    /// Compute with an adapter beside its base, instead of merging it into the weights
    #[arg(long)]
    unmerged: bool,

    /// Write predictions of labelled shards as JSON lines
    #[arg(short, long, value_name = "FILE")]
    predictions: Option<PathBuf>,

    #[command(flatten)]
    score: ScoreArgs,

    /// Compare two files that --predictions wrote for the same texts; no model is read
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    #[arg(conflicts_with_all = ["paths", "model", "base", "adapter", "unmerged", "predictions"])]
    #[arg(conflicts_with_all = ["train", "temperature_from"])]
    compare: Option<Vec<PathBuf>>,

    /// With --compare: write the texts that are predicted differently as JSON lines
    #[arg(long, value_name = "FILE")]
    differences: Option<PathBuf>,

    #[command(flatten)]
    compute: Compute,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    if let Some(files) = &args.compare {
        return compare(files, args.differences.as_deref());
    }
    ensure!(args.differences.is_none(), usage("--differences goes with --compare"));
    let place = args.compute.open()?;
    let (model, paths) = cli::model_first(args.model, args.paths)?;
    ensure!(!paths.is_empty(), usage("no shard to score on"));
    let file = args.predictions.as_deref();
    let one = paths.len() == 1 && args.adapter.len() < 2;
    let fine = file.is_none_or(|file| one && file != Path::new("-"));
    ensure!(fine, usage("--predictions: a file, for one shard and one model at a time"));
    let mut predictions = file.map(|path| cli::output(Some(path))).transpose()?;
    let mut out = cli::text_output(None)?;
    let mut base = None;
    let adapters: Vec<Option<&Path>> = match &args.adapter[..] {
        [] => vec![None],
        all => all.iter().map(|adapter| Some(adapter.as_path())).collect(),
    };
    for path in &paths {
        let shard = Shard::open_one(path)?;
        for &adapter in &adapters {
            let start = Instant::now();
            if base.is_none() {
                base = Some(Checkpoint::open(&model, args.base.as_deref())?);
            }
            let checkpoint = base.as_ref().context("no model")?.with(adapter)?;
            let checkpoint = checkpoint.merging(!args.unmerged);
            let mut line =
                json!({"event": "score", "model": model, "shard": path, "examples": shard.len()});
            let about = program::of_adapter(adapter, &checkpoint)?;
            let named = || path.display().to_string();
            fits(&shard, &checkpoint.dir, &checkpoint.sizes()).with_context(named)?;
            let dir = adapter.unwrap_or(&model);
            let scored = (&shard, path.as_path());
            let how = (&args.score, place);
            let fields = program::score(checkpoint, scored, how, predictions.as_mut());
            let fields = fields.with_context(named).with_context(|| dir.display().to_string())?;
            fields.into_iter().chain(about).for_each(|(key, value)| line[key] = value);
            if let Some(seen) = program::seen(dir, &shard, path)? {
                line["seen"] = seen;
            }
            if program::chosen_on(dir, scored)? {
                line["chosen_on_this"] = json!(true);
            }
            program::tell_degenerate(&line["degenerate"], path);
            line["seconds"] = json!(start.elapsed().as_secs_f64());
            writeln!(out, "{line}")?;
        }
    }
    predictions.map_or(Ok(()), Output::commit)?;
    out.commit()
}

/// Writes what two files of predictions tell of two models.
fn compare(files: &[PathBuf], differences: Option<&Path>) -> Result<()> {
    let outputs = [("standard output", None), ("--differences", differences)];
    let outputs = if differences.is_some() { &outputs[..] } else { &outputs[..1] };
    cli::apart(outputs, files)?;
    let pair = Pair::open(&files[0], &files[1])?;
    if let Some(path) = differences {
        let mut out = cli::output(Some(path))?;
        pair.write_differences(&mut out)?;
        out.commit()?;
    }
    let mut out = cli::text_output(None)?;
    writeln!(out, "{}", pair.to_json())?;
    out.commit()
}
