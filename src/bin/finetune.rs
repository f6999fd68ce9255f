use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::json;
use tapt::checkpoint::{Checkpoint, Head, class_config, save_trained, write_texts};
use tapt::cli::{self, Talk};
use tapt::metrics::Metric;
use tapt::native::Compute;
use tapt::peft::MethodArgs;
use tapt::program::{self, Saving};
use tapt::shard::{Problem, Shard, Stage};
use tapt::train::{
    Classification, Course, Labelled, ObjectiveArgs, Run, TrainArgs, about, steps_of,
};

/// Fine-tune an encoder to classify, or to predict numbers.
///
/// Reads labelled token shards: one class a text, any number of them, or a number (prep
/// --multi-label, --regression). Writes a Hugging Face directory, or an adapter beside an
/// untouched base (--method lora), in PEFT's or AdapterHub's files; the weights come last.
/// An adapter given as the model trains on. With --eval the weights that scored best there
/// are kept, else the last ones. Stopped or killed, the same command goes on where it
/// stopped.
///
///   finetune --model enc/tapt --train train.tok --eval dev.tok --lr 2e-5 --epochs 3 -o runs/full
///   finetune --model enc/tapt --train train.tok --method lora --lr 1e-3 -o runs/lora
#[derive(Parser, Serialize)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The model to start from: a Hugging Face directory, an adapter, or org/name[@revision] on the hub
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

    /// With --eval: the score to be best at [default: accuracy; where texts have several labels micro_f1, of numbers mse]
    #[arg(long, value_enum)]
    metric: Option<Metric>,

    /// With --eval: stop after so many evaluations without a better score; 0 never does
    #[arg(long, default_value_t = 0, requires = "eval")]
    patience: u64,

    #[command(flatten)]
    method: MethodArgs,

    #[command(flatten)]
    objective: ObjectiveArgs,

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

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    cli::on_stop()?;
    let place = args.compute.open()?;
    let seeds = &args.run.seeds;
    let mut checkpoint = Checkpoint::open(&args.model, None)?;
    let (plan, files) = program::plan(&args.method, &mut checkpoint)?;
    let [from, home, name] =
        [&checkpoint.dir, &checkpoint.home, &checkpoint.name].map(PathBuf::clone);
    let sizes = checkpoint.sizes().behind(plan.virtual_tokens());
    let train = program::shards("--train", &args.train, (&from, &sizes))?.context("--train")?;
    let eval = program::shards("--eval", &args.eval, (&from, &sizes))?;
    let (labels, problem) = (train.labels(), train.problem());
    let metric = program::metric(args.metric, problem)?;
    if let ([only], Problem::Classes) = (labels.names(), problem) {
        cli::warn(format_args!("{only:?} is the only class: there is nothing to learn"));
    }
    let base = checkpoint.digest()?;
    let mut met = vec![(Stage::Training, &train)];
    met.extend(eval.iter().map(|eval| (Stage::Validation, eval)));
    let texts = program::texts(Some(&home), &met)?;
    let config =
        class_config(&checkpoint.config, &*checkpoint.architecture, (labels.names(), problem));
    let model = checkpoint.seeded(seeds.init()).classifier(
        labels.names().len(),
        &*plan,
        Head::New,
        place.device,
    );
    let model = model.with_context(|| args.model.display().to_string())?;
    args.method.check(&*plan, &model.parameters)?;
    model.parameters.remarks().iter().for_each(cli::note);

    let rows = Labelled::new(&train, labels, problem).context("--train")?;
    let objective = args.objective.open(problem, (labels, &rows.counts()), place.device)?;
    let weights = objective.about(labels);
    let digest = eval.as_ref().map(Shard::digest);
    let inputs =
        json!({"model": base, "train": train.digest(), "eval": digest, "class_weights": weights});
    let trained = (&model.model, &objective);
    let order = (seeds.order(), place);
    let mut task =
        Classification::new(trained, (rows, eval.as_ref()), labels, &args.run.batch, order)?;
    let steps_per_epoch = task.feed.steps_per_epoch();
    let total = args.steps.map_or_else(|| steps_of(args.epochs, steps_per_epoch), Ok)?;
    let (metric, patience) = (Some(metric).filter(|_| eval.is_some()), args.patience);
    let course =
        Course { total, steps_per_epoch, metric, keep_best: true, patience, ..Course::default() };
    course.check(&args.run)?;
    let about = about("finetune", &cli::command_line(), place, &model.parameters, total);
    let parameters = &model.parameters;
    program::settle(&args.output, &args.run, (&json!(args), &inputs), (&sizes, place, parameters));
    let run = Run::open((&args.output, Some(&home)), about, &json!(args), &inputs)?;
    let write = |out: &Path| {
        write_texts(out, &texts)?;
        save_trained(out, (&name, &from), (&*plan, files), &config, parameters)
    };
    let saving = Saving::new((&args.output, &from), &model.model, (&train, place.device), &write);
    program::train(("finetune", run), &mut task, parameters, (&args.run, &course), &saving)
}
