use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tapt::checkpoint::{Checkpoint, checked, read_texts, save_model, save_trained, write_texts};
use tapt::cli::{self, Talk};
use tapt::flags::{fault, usage};
use tapt::model::{MaskedLm, SequenceClassifier};
use tapt::native::{Compute, Dtype};
use tapt::nn::Everything;
use tapt::peft::Files;
use tapt::train::{Headed, MERGED, Probe};
use tch::Device;

/// Make a plain checkpoint of an adapter, or an adapter in the files of another
/// library.
///
/// The adapter becomes a part of its base's weights, for programs that know no
/// adapters; or, with --to, the same adapter is written as PEFT or AdapterHub's
/// library has it, where both compute the same. What is written is opened again,
/// and its logits on a few texts compared with the adapter's, before it is moved
/// to its place.
///
///   merge runs/lora -o runs/merged
///   merge --to adapterhub runs/lora -o runs/hub
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The adapter
    adapter: PathBuf,

    /// Where to write the checkpoint
    #[arg(short, long)]
    output: PathBuf,

    /// Write an adapter in the files of this library, instead of a checkpoint
    #[arg(long, value_enum, value_name = "LIBRARY")]
    to: Option<Files>,

    /// The base of the adapter, where it lies elsewhere than when it was trained
    #[arg(long)]
    base: Option<PathBuf>,

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
    let half = args.compute.dtype == Dtype::Bf16;
    ensure!(!half, usage("--dtype bf16: weights are merged in f32"));
    let device = args.compute.open()?.device;
    let checkpoint = Checkpoint::open(&args.adapter, args.base.as_deref())?;
    let named = || args.adapter.display().to_string();
    let plain = || fault(format!("{}: is no adapter", named()), "it is a plain checkpoint already");
    let adapter = checkpoint.adapter().ok_or_else(plain)?;
    ensure!(
        args.to.is_some() || adapter.plan.as_ref().is_some_and(|plan| plan.merges()),
        fault(
            format!("{}: what it adds is no part of any weight of the base", named()),
            "evaluate, predict and embed take the adapter as it is"
        )
    );
    for taken in [&checkpoint.home, &checkpoint.dir] {
        let same = taken.canonicalize().ok() == args.output.canonicalize().ok();
        ensure!(
            !same,
            usage(format!("-o {}: it is read; give another directory", args.output.display()))
        );
    }
    let has_head = checkpoint.classifies() || checkpoint.fills_in();
    ensure!(has_head, checkpoint.no_classifier().context(named()));
    let written = match (checkpoint.classifies(), args.to) {
        (true, None) => merge::<SequenceClassifier>(&checkpoint, &args.output, device),
        (false, None) => merge::<MaskedLm>(&checkpoint, &args.output, device),
        (true, Some(to)) => convert::<SequenceClassifier>(&checkpoint, &args.output, to, device),
        (false, Some(to)) => convert::<MaskedLm>(&checkpoint, &args.output, to, device),
    };
    let difference = written.with_context(named)?;
    cli::note(format_args!("logits differ by {difference:.1e} from the adapter's"));
    Ok(())
}

/// Writes the merged model to `out` once it gives the same as the adapter beside its base. Gives how far they differ.
fn merge<M: Headed>(checkpoint: &Checkpoint, out: &Path, device: Device) -> Result<f64> {
    let apart = M::open(checkpoint.with(None)?, &Everything, device)?;
    let merged = M::open(checkpoint.with(None)?.merging(true), &Everything, device)?;
    let probe = Probe::drawn(&checkpoint.sizes(), device);
    let mut difference = 0.0;
    let texts = read_texts(&checkpoint.home)?;
    let write = |dir: &Path| {
        write_texts(dir, &texts)?;
        let config = apart.model.config(checkpoint)?;
        save_model(dir, &config, &checkpoint.dir, &merged.parameters)
    };
    checked(out, write, |dir| {
        let saved = M::open(Checkpoint::open(dir, None)?, &Everything, device)?;
        difference = probe.same(&apart.model, &saved.model, MERGED).context("merged, it")?;
        Ok(())
    })?;
    Ok(difference)
}

/// Writes the adapter to `out` in the files of another library. Gives how far its logits differ then.
fn convert<M: Headed>(
    checkpoint: &Checkpoint,
    out: &Path,
    to: Files,
    device: Device,
) -> Result<f64> {
    let mut again = checkpoint.with(None)?;
    let plan = again.take_method().context("no adapter")?;
    let model = M::open(again, &*plan, device)?;
    let (config, texts) = (model.model.config(checkpoint)?, read_texts(&checkpoint.home)?);
    let base = (&*checkpoint.name, &*checkpoint.dir);
    let write = |dir: &Path| {
        write_texts(dir, &texts)?;
        save_trained(dir, base, (&*plan, Some(to)), &config, &model.parameters)
    };
    let mut difference = 0.0;
    checked(out, write, |dir| {
        let probe = Probe::drawn(&checkpoint.sizes(), device);
        difference = probe.reload(&model.model, dir, Some(base.1))?;
        Ok(())
    })?;
    Ok(difference)
}
