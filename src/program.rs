//! What programs share: a run watched from the terminal, what is saved of it, what is scored.

mod baselines;
mod score;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tch::Device;

use crate::checkpoint::{Checkpoint, Stamp, added_words, checked, fits, keep, read_texts};
use crate::cli::{self, Progress, Stopped};
use crate::flags::{fault, usage};
use crate::metrics::Metric;
use crate::model::Sizes;
use crate::native::Place;
use crate::nn::Parameters;
use crate::peft::{Files, Method, MethodArgs};
use crate::shard::{Manifest, Problem, Shard, Stage};
use crate::train::{Course, Headed, Probe, Run, Task, TrainArgs, Watch};

pub use score::{ScoreArgs, chosen_on, score};

/// What a run leaves in its directory.
pub struct Saving<'a, M> {
    dir: &'a Path,
    base: &'a Path,
    model: &'a M,
    probe: Probe,
    write: &'a dyn Fn(&Path) -> Result<()>,
}

impl<'a, M: Headed> Saving<'a, M> {
    /// What `write` fills `dir` with: opened as any program does, it must give the logits that `model` gives of the first texts
    /// of `shard`. `base` is the directory of what the run began with.
    pub fn new(
        (dir, base): (&'a Path, &'a Path),
        model: &'a M,
        (shard, device): (&Shard, Device),
        write: &'a dyn Fn(&Path) -> Result<()>,
    ) -> Self {
        Self { dir, base, model, probe: Probe::of(shard, device), write }
    }

    fn look(&self, saved: &Path) -> Result<()> {
        self.probe.reload(self.model, saved, Some(self.base)).map(drop).map_err(|error| {
            let cure = "is the base still the one the run began with? the same command goes on from the last state";
            fault(format!("{error:#}"), cure)
        })
    }
}

/// Settles how many tokens go through a model at once, and says it where that was to be found.
pub fn settle(
    dir: &Path,
    args: &TrainArgs,
    run: (&Value, &Value),
    model: (&Sizes, Place, &Parameters),
) {
    let settled =
        args.batch.micro_tokens.settle(dir, run, model, args.batch.activation_checkpointing);
    settled.iter().for_each(cli::note);
}

/// Trains with a progress bar, saves the model and ends the run; where what was saved is not the model, the run is not done:
/// its state is kept. Fails with `Stopped` on a signal.
pub fn train<M: Headed>(
    (name, mut run): (&'static str, Run),
    task: &mut dyn Task,
    parameters: &Parameters,
    (args, course): (&TrainArgs, &Course),
    saving: &Saving<M>,
) -> Result<()> {
    let mut bar = Progress::steps(name, course.total);
    let (dir, look) = (saving.dir, |saved: &Path| saving.look(saved));
    let identity = run.identity.clone();
    let mut watch = Watch {
        stop: &cli::stop_requested,
        progress: &mut |step, loss, rate| bar.training(step, loss, rate),
        note: &|message| cli::warn(message),
        tell: &|message| cli::note(message),
        keep: &mut |step| {
            let step = Stamp { step, identity: identity.clone() };
            keep(dir, (&step, args.fit.keep), saving.write, look)
        },
    };
    let done = run.train(task, parameters, args, course, &mut watch)?;
    bar.finish();
    let done = done.ok_or(Stopped)?;
    tell(&done);
    run.unless_failed(checked(dir, saving.write, look))?;
    run.finish(done, parameters.device())
}

/// Opens the shards of a flag, which must fit the model; nothing where none were given.
pub fn shards(
    flag: &str,
    paths: &[PathBuf],
    (model, sizes): (&Path, &Sizes),
) -> Result<Option<Shard>> {
    if paths.is_empty() {
        return Ok(None);
    }
    let shard = Shard::open(paths)?;
    let named: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    fits(&shard, model, sizes).with_context(|| format!("{flag} {}", named.join(" ")))?;
    Ok(Some(shard))
}

/// The masked shard of a flag, which must fit the model; nothing where none was given.
pub fn masked_shard(
    flag: &str,
    path: Option<&PathBuf>,
    (model, sizes): (&Path, &Sizes),
) -> Result<Option<Shard>> {
    let Some(path) = path else { return Ok(None) };
    let shard = Shard::open_one(path)?;
    let cause = || {
        fault(format!("{flag}: it is not masked"), "mask dev.tok > dev.bin does it once for all")
    };
    ensure!(shard.is_masked(), cause());
    fits(&shard, model, sizes).with_context(|| flag.to_owned())?;
    Ok(Some(shard))
}

/// Says which weights are kept, and warns where they tell nothing apart.
fn tell(done: &Value) {
    if let Some(best) = done["best"].as_object() {
        let scores = best.iter().filter(|(key, _)| *key != "step");
        let scores: Vec<String> = scores.map(|(key, score)| format!("{key} {score}")).collect();
        let early = if done["ended_by"].is_null() { "" } else { "; patience ended the run" };
        let (step, scores) = (&best["step"], scores.join(", "));
        cli::note(format_args!("the weights of step {step} are kept: {scores}{early}"));
    }
    if let (Some("guard"), kept) = (done["ended_by"].as_str(), &done["kept"]) {
        let (step, nats) = (&kept["step"], kept["nats"].as_f64().unwrap_or(f64::NAN));
        cli::warn(format_args!(
            "the guard ended the run; the weights of step {step}, at {nats:.3} nats, are kept"
        ));
    }
    if let Some(degenerate) = done["degenerate"].as_str() {
        let cure = "another --lr, more --warmup, more --epochs or another --seed may help";
        cli::warn(format_args!("the run is degenerate: {degenerate}\nhint: {cure}"));
    }
}

/// What a line of scores says of an adapter: which, where there are others beside it, and the bytes of its weights on
/// disk, of which so many are the head's.
pub fn of_adapter(adapter: Option<&Path>, checkpoint: &Checkpoint) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    fields.extend(adapter.map(|adapter| ("adapter".to_owned(), json!(adapter))));
    if let Some(own) = checkpoint.adapter() {
        let (all, head) = own.bytes(&*checkpoint.architecture)?;
        fields.insert("bytes".into(), json!(all));
        fields.insert("head_bytes".into(), json!(head));
    }
    Ok(fields)
}

/// The key of the score to be best at, and whether more of it is better. Fails on one such labels have not.
pub fn metric(asked: Option<Metric>, problem: Problem) -> Result<(&'static str, bool)> {
    let known: &[Metric] = match problem {
        Problem::Classes => {
            &[Metric::Accuracy, Metric::MacroF1, Metric::MicroF1, Metric::Mcc, Metric::Loss]
        }
        Problem::MultiLabel => &[Metric::MicroF1, Metric::MacroF1, Metric::Accuracy, Metric::Loss],
        Problem::Regression => {
            &[Metric::Mse, Metric::Mae, Metric::R2, Metric::Pearson, Metric::Spearman, Metric::Loss]
        }
    };
    let metric = asked.unwrap_or(known[0]);
    let names: Vec<_> = known.iter().map(|metric| metric.key().0).collect();
    let cause = || {
        let (name, problem, names) = (metric.key().0, problem.name(), names.join(", "));
        usage(format!("--metric {name}: {problem} has {names}"))
    };
    ensure!(known.contains(&metric), cause());
    Ok(metric.key())
}

/// What trains, and whose files it is written in if that is said: the method of the flags; of an adapter its own, which
/// goes on as it is.
pub fn plan(
    args: &MethodArgs,
    checkpoint: &mut Checkpoint,
) -> Result<(Box<dyn Method>, Option<Files>)> {
    let sizes = checkpoint.architecture.sizes();
    let files = args.adapter_files.or(checkpoint.library());
    let Some(own) = checkpoint.take_method() else {
        let plan = args.plan(sizes.layers as usize, || added_words(&checkpoint.dir))?;
        let (most, tokens) = (sizes.max_length, plan.virtual_tokens());
        let cause =
            || usage(format!("--virtual-tokens {tokens}: the model takes {most} tokens in all"));
        ensure!(tokens < most, cause());
        return Ok((plan, files));
    };
    let cure = match own.merges() {
        true => "leave --method out, or make a whole model of it: merge DIR -o OUT",
        false => "leave --method out, or give its base as --model",
    };
    let cause = "--method: the model is an adapter, and goes on as what it is";
    ensure!(args.method.is_none(), usage(cause).hint(cure));
    Ok((own, files))
}

/// What a model will have met: what its base has, and the texts of these shards. Says where a shard does not name them.
pub fn texts(base: Option<&Path>, shards: &[(Stage, &Shard)]) -> Result<Manifest> {
    let mut met = base.map(read_texts).transpose()?.unwrap_or_default();
    for (stage, shard) in shards {
        if !met.add(*stage, shard) {
            let stage = stage.name();
            cli::note(format_args!(
                "the shards of {stage} do not name their texts: evaluate will not know which were seen"
            ));
        }
    }
    Ok(met)
}

/// Warns where a model does not tell the texts of a shard apart.
pub fn tell_degenerate(said: &Value, shard: &Path) {
    if let Some(said) = said.as_str() {
        cli::warn(format_args!("{}: {said}", shard.display()));
    }
}

/// How many of a shard's texts the model in `dir` met before, and at which stage; warns if it met any. Nothing where the
/// shard does not name its texts.
pub fn seen(dir: &Path, shard: &Shard, name: &Path) -> Result<Option<Value>> {
    let Some(mut texts) = shard.texts() else { return Ok(None) };
    texts.sort_unstable();
    texts.dedup();
    let mut seen = json!({"texts": texts.len()});
    for (stage, met) in read_texts(dir)?.seen(&texts) {
        let stage = stage.name();
        if let Some(met) = met.filter(|met| *met > 0) {
            let (shard, all) = (name.display(), texts.len());
            cli::warn(format_args!("{shard}: {met} of its {all} texts were seen in {stage}"));
        }
        seen[stage] = json!(met);
    }
    Ok(Some(seen))
}
