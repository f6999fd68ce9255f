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
use tapt::native::Compute;
use tapt::nn::Everything;
use tapt::program;
use tapt::shard::{Labels, Shard};
use tapt::train::{self, Labelled};
use tch::Device;

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
    let device = args.compute.open()?;
    let (model, paths) = cli::model_first(args.model, args.paths)?;
    ensure!(!paths.is_empty(), usage("no shard to score on"));
    let file = args.predictions.as_deref();
    let fine = file.is_none_or(|file| paths.len() == 1 && file != Path::new("-"));
    ensure!(fine, usage("--predictions: a file, for one shard at a time"));
    let mut predictions = file.map(|path| cli::output(Some(path))).transpose()?;
    let mut out = cli::text_output(None)?;
    for path in &paths {
        let start = Instant::now();
        let shard = Shard::open_one(path)?;
        let checkpoint = Checkpoint::open(&model, args.base.as_deref())?.merging(!args.unmerged);
        let sizes = checkpoint.architecture.sizes();
        let named = || path.display().to_string();
        fits(&shard, &checkpoint.dir, &sizes).with_context(named)?;
        let masked = shard.is_masked();
        ensure!(!masked || file.is_none(), "--predictions: {}: it is masked", path.display());
        let scores = match masked {
            true => score_masked(checkpoint, &shard, device).context("the shard is masked"),
            false => score_labelled(checkpoint, &shard, device, predictions.as_mut()),
        };
        let scores = scores.with_context(named);
        let mut line =
            json!({"event": "score", "model": model, "shard": path, "examples": shard.len()});
        let fields = scores.with_context(|| model.display().to_string())?;
        fields.into_iter().for_each(|(key, value)| line[key] = value);
        if let Some(seen) = program::seen(&model, &shard, path)? {
            line["seen"] = seen;
        }
        line["seconds"] = json!(start.elapsed().as_secs_f64());
        writeln!(out, "{line}")?;
    }
    predictions.map_or(Ok(()), Output::commit)?;
    out.commit()
}

type Fields = Map<String, Value>;

fn score_masked(checkpoint: Checkpoint, shard: &Shard, device: Device) -> Result<Fields> {
    let model = checkpoint.masked_lm(&Everything, Head::Given, device)?;
    let mut bar = Progress::new("evaluate", shard.len() as u64);
    let scores =
        train::masked(&model.model, shard, device, &mut |n| bar.set(n as u64, String::new))?;
    bar.finish();
    Ok(Fields::from_iter([
        ("masked".to_owned(), json!(scores.masked)),
        ("scores".to_owned(), scores.scores()),
    ]))
}

fn score_labelled(
    checkpoint: Checkpoint,
    shard: &Shard,
    device: Device,
    predictions: Option<&mut Output>,
) -> Result<Fields> {
    let labels = Labels::new(checkpoint.labels()?);
    let names = labels.names();
    let rows = Labelled::new(shard, &labels)?;
    let model = checkpoint.classifier(names.len(), &Everything, Head::Given, device)?;
    let texts = rows.texts().len();
    let mut bar = Progress::new("evaluate", texts as u64);
    let (mut kept, mut done) = (vec![Vec::new(); texts], 0);
    let scores = train::classes(&model.model, &rows, names.len(), device, &mut |i, probs| {
        done += 1;
        bar.set(done, String::new);
        if predictions.is_some() {
            kept[i] = probs;
        }
    })?;
    bar.finish();
    if let Some(out) = predictions {
        rows.write_predictions(out, names, &kept)?;
    }
    Ok(scores.fields(&rows, names))
}
