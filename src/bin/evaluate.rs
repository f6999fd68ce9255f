use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Map, Value, json};
use tapt::checkpoint::{Checkpoint, Head, fits};
use tapt::cli::{self, Output, Progress, Talk};
use tapt::flags::usage;
use tapt::native::{Compute, Place};
use tapt::nn::Nothing;
use tapt::program;
use tapt::shard::{Labels, Shard};
use tapt::train::{self, Labelled};

/// Score a model.
///
/// Reads labelled shards (a classifier is scored) or masked shards (a masked
/// language model is), and writes one JSON line for each. Classes are joined by
/// name: a label the model does not know is an error. Texts in windows (prep
/// --stride) count once each, with the mean of their windows' probabilities.
///
///   evaluate runs/full test.tok > score.json
///   mask --seed 7 dev.tok > dev.bin; evaluate enc/tapt dev.bin
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The model (unless --model names it), then the shards to score it on
    #[arg(required = true, value_name = "MODEL SHARD")]
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
    compute: Compute,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
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
            let fields = score(checkpoint, &shard, place, predictions.as_mut());
            let fields = fields.with_context(named).with_context(|| dir.display().to_string())?;
            fields.into_iter().chain(about).for_each(|(key, value)| line[key] = value);
            if let Some(seen) = program::seen(dir, &shard, path)? {
                line["seen"] = seen;
            }
            program::tell_degenerate(&line["degenerate"], path);
            line["seconds"] = json!(start.elapsed().as_secs_f64());
            writeln!(out, "{line}")?;
        }
    }
    predictions.map_or(Ok(()), Output::commit)?;
    out.commit()
}

fn score(
    checkpoint: Checkpoint,
    shard: &Shard,
    place: Place,
    predictions: Option<&mut Output>,
) -> Result<Map<String, Value>> {
    if !shard.is_masked() {
        return score_labelled(checkpoint, shard, place, predictions);
    }
    ensure!(predictions.is_none(), "--predictions: the shard is masked");
    program::score_masked(checkpoint, shard, place).context("the shard is masked")
}

fn score_labelled(
    checkpoint: Checkpoint,
    shard: &Shard,
    place: Place,
    mut predictions: Option<&mut Output>,
) -> Result<Map<String, Value>> {
    let labels = Labels::new(checkpoint.labels()?);
    let names = labels.names();
    let rows = Labelled::new(shard, &labels, checkpoint.problem()?)?;
    let model = checkpoint.classifier(names.len(), &Nothing, Head::Given, place.device)?;
    let mut bar = Progress::new("evaluate", rows.texts().len() as u64);
    let scores = train::labelled(&model.model, &rows, place, &mut |text, said| {
        bar.set(text as u64 + 1, String::new);
        let mut out = predictions.iter_mut();
        out.try_for_each(|out| rows.write_prediction(out, names, (text, &said)))
    })?;
    bar.finish();
    Ok(scores.fields(&rows, names))
}
