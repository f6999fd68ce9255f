//! A run: its directory, its log, its state, and the settings every trainer shares.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tch::Device;

use super::adamw::{AdamW, AdamWArgs};
use super::batches::BatchArgs;
use super::fit::{Fit, FitArgs, Outcome, Task, Watch, fit};
use super::identity::{digest_json, lock};
use super::log::Log;
use super::rates::RateArgs;
use super::schedule::ScheduleArgs;
use super::seeds::SeedArgs;
use super::state::{Mark, State};
use crate::flags::usage;
use crate::native::Place;
use crate::nn::Parameters;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The settings `pretrain` and `finetune` share.
#[derive(Debug, Clone, Args, Serialize)]
pub struct TrainArgs {
    #[command(flatten)]
    pub schedule: ScheduleArgs,

    #[command(flatten)]
    pub rates: RateArgs,

    #[command(flatten)]
    pub batch: BatchArgs,

    #[command(flatten)]
    pub optimizer: AdamWArgs,

    #[command(flatten)]
    pub fit: FitArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub seeds: SeedArgs,
}

/// How long a run is, and what makes it end early or keep other weights than the last.
#[derive(Debug, Clone, Default)]
pub struct Course {
    pub total: u64,
    pub steps_per_epoch: u64,
    /// The score to go by, and whether more of it is better.
    pub metric: Option<(&'static str, bool)>,
    /// Whether the weights that scored best are kept.
    pub keep_best: bool,
    pub patience: u64,
    /// Nats by which the loss that a guard watches may rise.
    pub guard_limit: Option<f64>,
}

impl Course {
    /// Fails where the settings do not fit the run.
    pub fn check(&self, args: &TrainArgs) -> Result<()> {
        args.schedule.over(self.total)?;
        args.rates.check(args.schedule.lr)?;
        let goes_by_scores = args.schedule.reduction().is_some();
        ensure!(
            !goes_by_scores || self.metric.is_some(),
            usage("--schedule reduce_lr_on_plateau goes by evaluations: --eval is wanted")
        );
        Ok(())
    }
}

/// The directory of one run, held until dropped.
pub struct Run {
    /// What makes it this run and no other.
    pub identity: String,
    state: State,
    pub log: Log,
    _lock: File,
}

/// What the log says first of a run: who computes what, and where.
pub fn about(
    program: &str,
    command: &str,
    place: Place,
    parameters: &Parameters,
    steps: u64,
) -> Value {
    json!({
        "program": program,
        "command": command,
        "device": format!("{:?}", place.device).to_lowercase(),
        "dtype": place.dtype(),
        "parameters": parameters.count(false),
        "trained": parameters.count(true),
        "steps": steps,
    })
}

impl Run {
    /// Opens `dir` and logs what is about to run. `settings` and `inputs` make the run what it is: a state of
    /// others is not resumed.
    pub fn open(
        (dir, base): (&Path, Option<&Path>),
        about: Value,
        settings: &Value,
        inputs: &Value,
    ) -> Result<Self> {
        let within = |base: &Path| {
            let both = base.canonicalize().ok().zip(dir.canonicalize().ok());
            // A model that was kept there is one of those that make room for others.
            let kept = |base: &Path, dir: &Path| {
                base.join("step.json").exists() && base.parent() == Some(dir)
            };
            both.is_some_and(|(base, dir)| base == dir || kept(&base, &dir))
        };
        ensure!(
            !base.is_some_and(within),
            "{}: holds the model to start from; -o must be another directory",
            dir.display()
        );
        let lock = lock(dir)?;
        let mut log = Log::open(dir)?;
        let identity = identity(settings, inputs);
        let dtype = about["dtype"].as_str().unwrap_or_default().to_owned();
        let mut event = json!({"event": "run", "version": VERSION});
        merge(&mut event, about);
        merge(&mut event, json!({"config": settings, "inputs": inputs, "identity": identity}));
        log.write(&event)?;
        let at_once = settings.pointer("/run/batch/micro_tokens").and_then(Value::as_u64);
        let state = State::new(dir, identity.clone(), dtype, at_once.unwrap_or_default());
        Ok(Self { identity, state, log, _lock: lock })
    }

    /// Trains to the end; the best weights are in the model then, or the last that a guard let pass, or the last. Gives
    /// the event to log once the model is saved; nothing if the run was asked to stop, and its state is saved.
    pub fn train(
        &mut self,
        task: &mut dyn Task,
        parameters: &Parameters,
        args: &TrainArgs,
        course: &Course,
        watch: &mut Watch,
    ) -> Result<Option<Value>> {
        if let Some(dir) = &args.fit.tensorboard {
            self.log.show(dir)?;
        }
        let shares = args.rates.shares(parameters, args.schedule.lr);
        let mut optimizer = AdamW::with_shares(parameters, &args.optimizer, shares);
        let mut plan = Fit {
            total: course.total,
            schedule: args.schedule.over(course.total)?,
            seed: args.seeds.dropout(),
            device: parameters.device(),
            args: &args.fit,
            eval_every: args.fit.eval_every.unwrap_or(course.steps_per_epoch),
            metric: course.metric,
            keep_best: course.keep_best,
            reduction: args.schedule.reduction(),
            patience: course.patience,
            guard_limit: course.guard_limit,
            state: self.state.clone(),
            log: &mut self.log,
        };
        let outcome = fit(task, &mut optimizer, &mut plan, watch);
        let Outcome::Done { step, seconds, best, ended_by } = self.unless_failed(outcome)? else {
            self.log.write(&json!({"event": "stop"}))?;
            return Ok(None);
        };
        let mut done = json!({"event": "done", "step": step, "seconds": seconds});
        if let Some(best) = best {
            best.restore(&mut optimizer)?;
            let Mark { step, score, degenerate } = best.mark;
            match course.metric.filter(|_| course.keep_best) {
                Some((metric, _)) => done["best"] = json!({"step": step, metric: score}),
                None => done["kept"] = json!({"step": step, "nats": score}),
            }
            if let Some(degenerate) = degenerate {
                done["degenerate"] = json!(degenerate);
            }
        }
        if let Some(by) = ended_by {
            done["ended_by"] = json!(by);
        }
        Ok(Some(done))
    }

    /// Logs why a run failed, for who follows it. The log may be what failed: the cause is not lost with it.
    pub fn unless_failed<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| {
            let event = json!({"event": "fail", "cause": format!("{error:#}")});
            let _ = self.log.write(&event);
        })
    }

    /// Logs the end and forgets the state: the model is saved.
    pub fn finish(mut self, done: Value, device: Device) -> Result<()> {
        self.log.measured(done, device)?;
        self.state.remove()
    }
}

/// What makes a run of these settings on these inputs that run.
pub fn identity(settings: &Value, inputs: &Value) -> String {
    digest_json(&json!([VERSION, defining(settings), inputs]))
}

/// The settings that change what is computed: not where files lie (their digests count), nor how often to write.
fn defining(settings: &Value) -> Value {
    let mut settings = settings.clone();
    let drop = |map: Option<&mut Value>, keys: &[&str]| {
        if let Some(map) = map.and_then(Value::as_object_mut) {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    let often = ["keep", "log_every", "save_every", "skip_nan", "tensorboard", "time_limit"];
    drop(settings.pointer_mut("/run/fit"), &often);
    drop(settings.pointer_mut("/run/batch"), &["activation_checkpointing"]);
    drop(
        Some(&mut settings),
        &["compute", "model", "shards", "train", "eval", "guard", "from_scratch", "tokenizer"],
    );
    settings
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}
