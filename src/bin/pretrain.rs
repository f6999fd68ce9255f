use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::json;
use tapt::checkpoint::{
    Checkpoint, Head, fits, mlm_config, save_trained, untied_config, write_texts,
};
use tapt::cli::{self, Talk};
use tapt::native::Compute;
use tapt::peft::MethodArgs;
use tapt::program::{self, Saving};
use tapt::shard::{Masking, Shard, Stage};
use tapt::train::{Course, Epochs, GuardArgs, Mlm, Run, TrainArgs, about};

/// Go on training a masked language model on text of a domain (DAPT) or of a
/// task (TAPT).
///
/// Reads a masked stream (as `mask` writes it), or plain token shards, which it
/// masks itself to the same bits. Writes a Hugging Face directory;
/// model.safetensors comes last. Stopped or killed, the same command goes on
/// where it stopped.
///
///   mask --epochs 20 --seed 1 train.tok | pretrain --model roberta --seed 1 -o tapt
///   pretrain --model roberta --epochs 20 --seed 1 -o tapt train.tok
#[derive(Parser, Serialize)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// Token shards, plain or masked; `-` is standard input
    #[arg(default_value = "-")]
    shards: Vec<PathBuf>,

    /// The model to start from: a Hugging Face directory, an adapter, or org/name[@revision] on the hub
    #[arg(long, required_unless_present = "from_scratch")]
    model: Option<PathBuf>,

    /// Start a new model of this config.json instead; takes the tokenizer of --tokenizer
    #[arg(long, value_name = "CONFIG", requires = "tokenizer",
        conflicts_with_all = ["model", "method"])]
    from_scratch: Option<PathBuf>,

    /// With --from-scratch: the directory of the tokenizer the shards were written with
    #[arg(long, value_name = "DIR", requires = "from_scratch")]
    tokenizer: Option<PathBuf>,

    /// Start the MLM head at random if the model has none
    #[arg(long)]
    new_head: bool,

    /// Where to write the checkpoint
    #[arg(short, long)]
    #[serde(skip)]
    output: PathBuf,

    /// Optimizer steps; wins over --epochs
    #[arg(long, value_parser = tapt::flags::count)]
    steps: Option<u64>,

    /// Passes over plain shards; a masked stream says itself how many it has
    #[arg(long, value_parser = tapt::flags::count)]
    epochs: Option<u64>,

    #[command(flatten)]
    masking: Masking,

    #[command(flatten)]
    method: MethodArgs,

    #[command(flatten)]
    run: TrainArgs,

    /// A masked shard to score between epochs
    #[arg(long, value_name = "MASKED_SHARD")]
    eval: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    guard: GuardArgs,

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
    args.guard.check(args.from_scratch.is_some(), args.new_head)?;
    let place = args.compute.open()?;
    let seeds = &args.run.seeds;
    let rows = Epochs::open(&args.shards, &args.masking, seeds.seed)?;
    cli::on_stop()?;
    let mut checkpoint = open(&args, &rows)?;
    let (plan, files) = program::plan(&args.method, &mut checkpoint)?;
    let [from, home, name] =
        [&checkpoint.dir, &checkpoint.home, &checkpoint.name].map(PathBuf::clone);
    let sizes = checkpoint.sizes().behind(plan.virtual_tokens());
    fits(rows.shard(), &from, &sizes).context("the shards to train on")?;
    let eval = program::masked_shard("--eval", args.eval.as_ref(), (&from, &sizes))?;
    let guard = program::masked_shard("--guard", args.guard.guard.as_ref(), (&from, &sizes))?;
    let base = checkpoint.digest()?;
    let base_dir = args.model.as_ref().map(|_| home.as_path());
    let texts = program::texts(base_dir, &[(Stage::Pretraining, rows.shard())])?;
    let config = mlm_config(&checkpoint.config, &*checkpoint.architecture);
    let head = if args.new_head { Head::New } else { Head::Given };
    let model = checkpoint.seeded(seeds.init()).masked_lm(&*plan, head, place.device);
    let model = model.with_context(|| from.display().to_string())?;
    args.method.check(&*plan, &model.parameters)?;
    model.parameters.remarks().iter().for_each(cli::note);

    let digest = |shard: &Option<Shard>| shard.as_ref().map(Shard::digest);
    let inputs = json!({"model": base, "train": rows.shard().digest(), "eval": digest(&eval), "guard": digest(&guard)});
    let held_out = (eval.as_ref(), guard.as_ref());
    let mut task = Mlm::new(&model.model, rows, &args.run.batch, held_out, (seeds.order(), place))?;
    let steps_per_epoch = task.feed.steps_per_epoch();
    let total = task.feed.rows.total(args.steps, args.epochs, steps_per_epoch)?;
    let (metric, guard_limit) = (eval.as_ref().map(|_| ("nats", false)), args.guard.guard_limit);
    let course = Course { total, steps_per_epoch, metric, guard_limit, ..Course::default() };
    course.check(&args.run)?;
    let mut about = about("pretrain", &cli::command_line(), place, &model.parameters, total);
    about["masking"] = json!(task.feed.rows.masking());
    let parameters = &model.parameters;
    program::settle(&args.output, &args.run, (&json!(args), &inputs), (&sizes, place, parameters));
    let run = Run::open((&args.output, base_dir), about, &json!(args), &inputs)?;
    let config = if model.model.is_tied() { config } else { untied_config(config) };
    let write = |out: &Path| {
        write_texts(out, &texts)?;
        save_trained(out, (&name, &from), (&*plan, files), &config, parameters)
    };
    let looked_at = (task.feed.rows.shard(), place.device);
    let saving = Saving::new((&args.output, &from), &model.model, looked_at, &write);
    program::train(("pretrain", run), &mut task, parameters, (&args.run, &course), &saving)
}

fn open(args: &Args, rows: &Epochs) -> Result<Checkpoint> {
    if let (Some(config), Some(tokenizer)) = (&args.from_scratch, &args.tokenizer) {
        let vocab = rows.shard().header().vocab_size;
        return Checkpoint::from_scratch(config, vocab, tokenizer);
    }
    let model = args.model.as_ref().context("--model or --from-scratch is wanted")?;
    Checkpoint::open(model, None)
}
