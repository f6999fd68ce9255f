use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::json;
use tapt::checkpoint::{
    Checkpoint, Head, class_config, fits, save_adapter, save_model, write_texts,
};
use tapt::cli::{self, Talk};
use tapt::metrics::Metric;
use tapt::native::Compute;
use tapt::peft::MethodArgs;
use tapt::program;
use tapt::shard::{Shard, Stage};
use tapt::train::{Classification, Course, Run, TrainArgs, about, steps_of};

/// Fine-tune an encoder to classify.
///
/// Reads labelled token shards. Writes a Hugging Face directory, or an adapter
/// in PEFT's files beside an untouched base (--method lora); the weights come
/// last. With --eval the weights that scored best there are kept, else the last
/// ones. Stopped or killed, the same command goes on where it stopped.
///
///   finetune --model enc/tapt --train train.tok --eval dev.tok --lr 2e-5 --epochs 3 -o runs/full
///   finetune --model enc/tapt --train train.tok --method lora --lr 1e-3 -o runs/lora
#[derive(Parser, Serialize)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The model to start from: a Hugging Face directory, or org/name[@revision] on the hub
    #[arg(long)]
    model: PathBuf,

    /// Labelled token shards to train on
    #[arg(long, required = true, num_args = 1..)]
    train: Vec<PathBuf>,

    /// Labelled token shards to choose the weights by
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,

    /// Where to write the checkpoint or adapter
    #[arg(short, long)]
    #[serde(skip)]
    output: PathBuf,

    /// Passes over the training shards
    #[arg(long, default_value_t = 3, value_parser = tapt::flags::count)]
    epochs: u64,

    /// Optimizer steps; wins over --epochs
    #[arg(long, value_parser = tapt::flags::count)]
    steps: Option<u64>,

    /// With --eval: the score to be best at
    #[arg(long, value_enum, default_value_t = Metric::Accuracy)]
    metric: Metric,

    /// With --eval: stop after so many evaluations without a better score; 0 never does
    #[arg(long, default_value_t = 0, requires = "eval")]
    patience: u64,

    #[command(flatten)]
    method: MethodArgs,

    #[command(flatten)]
    run: TrainArgs,

    #[command(flatten)]
    compute: Compute,

    #[command(flatten)]
    #[serde(skip)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn listed(flag: &str, paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("{flag} {}", paths.join(" "))
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    cli::on_stop()?;
    let device = args.compute.open()?;
    let seed = args.run.seed;
    let checkpoint = Checkpoint::open_whole(&args.model)?;
    let from = checkpoint.dir.clone();
    let sizes = checkpoint.architecture.sizes();
    let train = Shard::open(&args.train)?;
    let eval = if args.eval.is_empty() { None } else { Some(Shard::open(&args.eval)?) };
    fits(&train, &from, &sizes).with_context(|| listed("--train", &args.train))?;
    if let Some(eval) = &eval {
        fits(eval, &from, &sizes).with_context(|| listed("--eval", &args.eval))?;
    }
    let labels = train.labels();
    if let [only] = labels.names() {
        cli::warn(format_args!("{only:?} is the only class: there is nothing to learn"));
    }
    let base = checkpoint.digest()?;
    let mut met = vec![(Stage::Training, &train)];
    met.extend(eval.iter().map(|eval| (Stage::Validation, eval)));
    let texts = program::texts(Some(&from), &met)?;
    let config = class_config(&checkpoint.config, &*checkpoint.architecture, labels.names());
    let plan = args.method.plan(sizes.layers as usize)?;
    let model = checkpoint.seeded(seed).classifier(labels.names().len(), &*plan, Head::New, device);
    let model = model.with_context(|| args.model.display().to_string())?;
    args.method.check(&model.parameters)?;
    model.parameters.remarks().iter().for_each(cli::note);

    let inputs =
        json!({"model": base, "train": train.digest(), "eval": eval.as_ref().map(Shard::digest)});
    let shards = (&train, eval.as_ref());
    let mut task =
        Classification::new(&model.model, shards, labels, &args.run.batch, (seed, device))?;
    let steps_per_epoch = task.feed.steps_per_epoch();
    let total = args.steps.map_or_else(|| steps_of(args.epochs, steps_per_epoch), Ok)?;
    let metric = eval.as_ref().map(|_| args.metric.key());
    args.run.schedule.over(total)?;
    let course = Course { total, steps_per_epoch, metric, patience: args.patience };
    let about = about("finetune", &cli::command_line(), device, &model.parameters, total);
    let mut run = Run::open((&args.output, Some(&from)), about, &json!(args), &inputs)?;
    let parameters = &model.parameters;
    let done = program::train("finetune", &mut run, &mut task, parameters, &args.run, &course)?;
    let out = &args.output;
    write_texts(out, &texts)?;
    match plan.about(parameters) {
        Some(about) => {
            save_adapter(out, (&args.model, &from), (&*plan, about), &config, parameters)?
        }
        None => save_model(out, &config, &from, parameters)?,
    }
    run.finish(&done)
}
