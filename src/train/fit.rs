//! The loop, and nothing else.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tch::{Tensor, no_grad};

use super::adamw::AdamW;
use super::batches::{Micro, Step};
use super::log::Log;
use super::schedule::Schedule;
use super::state::{Found, Position, State};
use crate::flags::fault;

/// Seconds between saves where `--save-every` says nothing.
const SAVE_SECONDS: f64 = 120.0;

/// How often things are written down, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct FitArgs {
    /// Steps between lines of the log
    #[arg(long, default_value_t = 10, value_parser = crate::flags::count)]
    pub log_every: u64,

    /// Steps between evaluations [default: an epoch]
    #[arg(long, value_parser = crate::flags::count)]
    pub eval_every: Option<u64>,

    /// Steps between saves of the state a killed run resumes from [default: about two minutes' worth]
    #[arg(long, value_parser = crate::flags::count)]
    pub save_every: Option<u64>,
}

/// What is trained: steps to take, their loss, and an evaluation between them.
pub trait Task {
    /// Optimizer step `step` of the run, counted from 0.
    fn step(&mut self, step: u64) -> Result<Step>;

    /// The loss of a micro-batch, added up over its predictions: a scalar.
    fn loss(&self, micro: &Micro) -> Tensor;

    /// Scores on held-out data, if there is any.
    fn evaluate(&self) -> Result<Option<Value>>;
}

/// A run: how long, how fast, where it is written down.
pub struct Fit<'a> {
    pub total: u64,
    pub schedule: Schedule,
    pub seed: u64,
    pub args: &'a FitArgs,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// The score to be best at, and whether more of it is better; none keeps the last weights.
    pub metric: Option<(&'a str, bool)>,
    /// Stop after so many evaluations without a better score; 0 never does.
    pub patience: u64,
    pub state: State,
    pub log: &'a mut Log,
}

/// The process around the loop: it may ask to stop, and shows how things go.
pub struct Watch<'a> {
    pub stop: &'a dyn Fn() -> bool,
    /// Told the steps done, the mean loss and the tokens per second.
    pub progress: &'a mut dyn FnMut(u64, f64, f64),
    /// Told in words what one should know.
    pub note: &'a dyn Fn(String),
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// Done: steps taken, seconds over all processes, and the best weights if a metric chose them.
    Done { step: u64, seconds: f64, best: Option<Best> },
    /// Stopped on request; the state is saved.
    Stopped,
}

/// Weights that scored best, on the CPU.
#[derive(Debug)]
pub struct Best {
    pub step: u64,
    pub score: f64,
    pub tensors: Vec<(String, Tensor)>,
}

/// Sums since the last line of the log; the loss stays on the device until then.
struct Window {
    loss: Option<Tensor>,
    norm: Option<Tensor>,
    /// Steps that had something to predict.
    steps: u64,
    lr: f64,
}

/// Trains until the last step, a stop, or patience runs out. Fails on a loss that is no number.
pub fn fit(
    task: &mut dyn Task,
    optimizer: &mut AdamW,
    run: &mut Fit,
    watch: &mut Watch,
) -> Result<Outcome> {
    let (mut position, mut best) = resume(optimizer, run, watch)?;
    let (before, start) = (position.seconds, Instant::now());
    let (mut tokens, mut saved) = (0, 0.0);
    let mut window = Window::new();
    while position.step < run.total && !out_of_patience(run, &position) {
        let step = match task.step(position.step) {
            Ok(step) => step,
            // What cannot be read any more must not cost what was learnt.
            Err(error) => return save(run, &position, optimizer, best.as_ref()).and(Err(error)),
        };
        let lr = run.schedule.at(position.step);
        train(task, optimizer, &step, step_seed(run.seed, position.step), lr, &mut window);
        position.step += 1;
        tokens += step.tokens;
        let last = position.step == run.total;
        if position.step.is_multiple_of(run.args.log_every) || last {
            window.write(run.log, &position, tokens, start.elapsed().as_secs_f64(), watch)?;
        }
        if position.step.is_multiple_of(run.eval_every) || last {
            evaluate(task, optimizer, run, &mut position, &mut best)?;
        }
        position.seconds = before + start.elapsed().as_secs_f64();
        let stop = (watch.stop)() && !last;
        let due = match run.args.save_every {
            Some(every) => position.step.is_multiple_of(every),
            None => position.seconds - before - saved >= SAVE_SECONDS,
        };
        if stop || (due && !last) {
            save(run, &position, optimizer, best.as_ref())?;
            saved = position.seconds - before;
        }
        if stop {
            return Ok(Outcome::Stopped);
        }
    }
    optimizer.check()?;
    Ok(Outcome::Done { step: position.step, seconds: position.seconds, best })
}

/// Saves the state, if it is good to go on from.
fn save(run: &mut Fit, position: &Position, optimizer: &AdamW, best: Option<&Best>) -> Result<()> {
    optimizer.check()?;
    run.state.save(position, optimizer, best)?;
    run.log.write(&json!({"event": "save", "step": position.step}))
}

/// Goes to where an earlier process of the same run stopped.
fn resume(optimizer: &mut AdamW, run: &mut Fit, watch: &Watch) -> Result<(Position, Option<Best>)> {
    match run.state.find()? {
        Found::Nothing => {}
        Found::Foreign => {
            // It stays until the first save of this run: a mistyped flag must not cost it.
            (watch.note)("starts afresh: the state found is of other settings or inputs".into());
        }
        Found::Damaged(cause) => {
            (watch.note)(format!("starts afresh, the state found is damaged: {cause}"));
        }
        Found::Here(position, tensors) => {
            optimizer.restore(position.step, &tensors)?;
            (watch.note)(format!("resumes after step {} of {}", position.step, run.total));
            run.log.write(&json!({"event": "resume", "step": position.step}))?;
            let best = position.best(tensors);
            return Ok((*position, best));
        }
    }
    Ok((Position::default(), None))
}

fn out_of_patience(run: &Fit, position: &Position) -> bool {
    run.patience > 0 && position.worse >= run.patience
}

/// Every step draws its dropout from a seed of its own, so that resuming needs no generator's state.
fn step_seed(seed: u64, step: u64) -> i64 {
    use rand::RngCore;
    crate::random::generator("dropout", seed, step).next_u64() as i64
}

/// One optimizer step. The loss of each micro-batch is divided by the predictions of the whole step.
fn train(
    task: &dyn Task,
    optimizer: &mut AdamW,
    step: &Step,
    seed: i64,
    lr: f64,
    window: &mut Window,
) {
    window.lr = lr;
    if step.weight == 0 {
        // Short texts: no token of any of them was chosen.
        return optimizer.skip();
    }
    tch::manual_seed(seed);
    for micro in step.micros.iter().filter(|micro| micro.targets.numel() > 0) {
        let loss = task.loss(micro) / step.weight as f64;
        loss.backward();
        window.add(&loss);
    }
    window.norm = Some(optimizer.step(lr));
    window.steps += 1;
}

impl Window {
    fn new() -> Self {
        Self { loss: None, norm: None, steps: 0, lr: 0.0 }
    }

    fn add(&mut self, loss: &Tensor) {
        let loss = loss.detach();
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }

    /// Mean loss of the steps since the last line, if any had something to predict; here the device is waited for.
    fn mean(&self) -> Option<f64> {
        let sum = self.loss.as_ref()?.double_value(&[]);
        Some(sum / self.steps as f64)
    }

    /// Fails if the loss is not a number: what is saved must be good to go on from.
    fn check(&self, step: u64) -> Result<()> {
        if self.mean().is_some_and(|loss| !loss.is_finite()) {
            let cure = "a lower --lr or more --warmup may help";
            return Err(fault(format!("the loss is not a number after step {step}"), cure));
        }
        Ok(())
    }

    fn write(
        &mut self,
        log: &mut Log,
        at: &Position,
        tokens: u64,
        seconds: f64,
        watch: &mut Watch,
    ) -> Result<()> {
        self.check(at.step)?;
        let norm = self.norm.as_ref().map_or(0.0, |norm| norm.double_value(&[]));
        let (loss, rate) = (self.mean(), tokens as f64 / seconds);
        log.write(&json!({
            "event": "step", "step": at.step, "loss": loss, "lr": self.lr, "grad_norm": norm,
            "tokens": tokens, "seconds": seconds, "tokens_per_s": rate,
        }))?;
        if let Some(loss) = loss {
            (watch.progress)(at.step, loss, rate);
        }
        *self = Self::new();
        Ok(())
    }
}

/// Scores the weights as they are; keeps them if they are the best so far.
fn evaluate(
    task: &dyn Task,
    optimizer: &AdamW,
    run: &mut Fit,
    position: &mut Position,
    best: &mut Option<Best>,
) -> Result<()> {
    let Some(scores) = no_grad(|| task.evaluate())? else { return Ok(()) };
    run.log.write(&json!({"event": "eval", "step": position.step, "scores": scores}))?;
    let Some((metric, more)) = run.metric else { return Ok(()) };
    let score = scores[metric].as_f64();
    let score = score.with_context(|| format!("the {metric} of the evaluation is not a number"))?;
    let better =
        best.as_ref().is_none_or(|best| if more { score > best.score } else { score < best.score });
    position.worse = if better { 0 } else { position.worse + 1 };
    if better {
        let tensors =
            optimizer.parameters().map(|(name, t)| (name.clone(), no_grad(|| t.copy()))).collect();
        *best = Some(Best { step: position.step, score, tensors });
    }
    Ok(())
}

impl Best {
    /// Puts the kept weights back into the model.
    pub fn restore(&self, optimizer: &mut AdamW) -> Result<()> {
        optimizer.set_parameters(self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }
}
