//! The loop, and nothing else.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tch::{Device, Tensor, no_grad};

use super::adamw::AdamW;
use super::batches::{Micro, Step};
use super::guard;
use super::log::Log;
use super::plateau::Reduction;
use super::schedule::Schedule;
use super::state::{Found, Mark, Position, State};
use super::window::{Broken, Taken, Window};
use crate::flags::fault;

/// Seconds between saves where `--save-every` says nothing.
const SAVE_TIME: Duration = Duration::from_secs(120);

/// How often things are written down, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct FitArgs {
    /// Steps between lines of the log
    #[arg(long, default_value_t = 10, value_parser = crate::flags::count)]
    pub log_every: u64,

    /// Write losses, rates and scores for TensorBoard, too: event files in DIR
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,

    /// Steps between evaluations [default: an epoch]
    #[arg(long, value_parser = crate::flags::count)]
    pub eval_every: Option<u64>,

    /// Stop after so long, e.g. 90s, 30m or 8h: the state is saved, and the same command goes on
    #[arg(long, value_name = "TIME", value_parser = crate::flags::duration)]
    pub time_limit: Option<Duration>,

    /// Steps to pass over whose loss or gradient is not a number; one more ends the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_nan: u64,

    /// Steps between saves of the state a killed run resumes from [default: about two minutes' worth]
    #[arg(long, value_parser = crate::flags::count)]
    pub save_every: Option<u64>,

    /// Keep the models of the last N evaluations, too: OUTPUT/step-000120 and so on, each as large as the output
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep: usize,
}

/// What is trained: steps to take, their loss, and an evaluation between them.
pub trait Task {
    /// Optimizer step `step` of the run, counted from 0.
    fn step(&mut self, step: u64) -> Result<Step>;

    /// The loss of a micro-batch, added up over its predictions: a scalar.
    fn loss(&self, micro: &Micro) -> Tensor;

    /// Scores on held-out data, if there is any.
    fn evaluate(&self) -> Result<Option<Evaluation>>;

    /// The loss on the text that a guard watches, in nats a masked token, if there is one.
    fn guarded(&self) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// What an evaluation found.
#[derive(Debug)]
pub struct Evaluation {
    pub scores: Value,
    /// How it shows that nothing was learnt, in words.
    pub degenerate: Option<String>,
}

/// A run: how long, how fast, where it is written down.
pub struct Fit<'a> {
    pub total: u64,
    pub schedule: Schedule,
    pub seed: u64,
    /// Where it is computed.
    pub device: Device,
    pub args: &'a FitArgs,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// The score to go by, and whether more of it is better.
    pub metric: Option<(&'a str, bool)>,
    /// Whether the weights that scored best are kept, or the last ones.
    pub keep_best: bool,
    /// How the rate is cut where evaluations get no better.
    pub reduction: Option<Reduction>,
    /// Stop after so many evaluations without a better score; 0 never does.
    pub patience: u64,
    /// Nats by which the loss that a guard watches may rise.
    pub guard_limit: Option<f64>,
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
    /// Told in words how things go.
    pub tell: &'a dyn Fn(String),
    /// Told the steps done at every evaluation, while the model has the weights that were evaluated.
    pub keep: &'a mut dyn FnMut(u64) -> Result<()>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// Done: steps taken, seconds over all processes, the weights to keep if not the last, and what ended it early.
    Done { step: u64, seconds: f64, best: Option<Best>, ended_by: Option<&'static str> },
    /// Stopped on request; the state is saved.
    Stopped,
}

/// The weights that scored best, or the last that a guard let pass; on the CPU.
#[derive(Debug)]
pub struct Best {
    pub mark: Mark,
    pub tensors: Vec<(String, Tensor)>,
}

/// What is to be done after a step.
struct Due {
    logs: bool,
    evaluates: bool,
    saves: bool,
    /// The time is up.
    late: bool,
    stops: bool,
}

impl Due {
    /// After `step`, so long after the start, of which `saved` is when the state was saved last.
    fn after(step: u64, (passed, saved): (Duration, Duration), run: &Fit, stop: bool) -> Self {
        let last = step == run.total;
        let due = |every: u64| step.is_multiple_of(every) || last;
        let late = run.args.time_limit.is_some_and(|limit| passed >= limit);
        let stops = (late || stop) && !last;
        let saves = run.args.save_every.map_or(passed - saved >= SAVE_TIME, due);
        Self {
            logs: due(run.args.log_every),
            evaluates: due(run.eval_every),
            saves: stops || (!last && saves),
            late,
            stops,
        }
    }
}

/// Trains until the last step, a stop, or what ends it early. Fails on a loss that is no number.
pub fn fit(
    task: &mut dyn Task,
    optimizer: &mut AdamW,
    run: &mut Fit,
    watch: &mut Watch,
) -> Result<Outcome> {
    let (mut position, mut best) = resume(optimizer, run, watch)?;
    guard::begin(task, run, &mut position, watch)?;
    let (before, start) = (position.seconds, Instant::now());
    let (mut tokens, mut saved) = (0, Duration::ZERO);
    let mut window = Window::default();
    while position.step < run.total && ended_by(run, &position).is_none() {
        let step = match task.step(position.step) {
            Ok(step) => step,
            // What cannot be read any more must not cost what was learnt.
            Err(error) => {
                pass_over(window.read()?, run, &mut position, watch)?;
                return save(run, &position, optimizer, best.as_ref()).and(Err(error));
            }
        };
        let lr = position.plateau.rate(run.schedule.at(position.step));
        let seed = step_seed(run.seed, position.step);
        position.step += 1;
        if let Some((loss, norm)) = train(task, optimizer, &step, seed, lr) {
            window.add(Taken { step: position.step, loss, norm, rows: step.rows });
        }
        tokens += step.tokens;
        let passed = start.elapsed();
        let due = Due::after(position.step, (passed, saved), run, (watch.stop)());
        if due.logs || due.evaluates || due.saves || window.is_ready() {
            pass_over(window.read()?, run, &mut position, watch)?;
        }
        if due.logs {
            write(&mut window, run, &position, lr, (tokens, passed), watch)?;
        }
        if due.evaluates {
            evaluate(task, optimizer, run, &mut position, &mut best)?;
            guard::look((task, optimizer), run, &mut position, &mut best, watch)?;
            (watch.keep)(position.step)?;
        }
        position.seconds = before + start.elapsed().as_secs_f64();
        if due.saves {
            save(run, &position, optimizer, best.as_ref())?;
            saved = start.elapsed();
        }
        if due.stops {
            if due.late {
                (watch.note)(format!("--time-limit ends it after step {}", position.step));
            }
            return Ok(Outcome::Stopped);
        }
    }
    optimizer.check()?;
    let (step, seconds) = (position.step, position.seconds);
    Ok(Outcome::Done { step, seconds, best, ended_by: ended_by(run, &position) })
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
        Found::Otherwise(dtype) => {
            let cause = format!("the state found is of this run, computed in {dtype}");
            return Err(fault(cause, format!("--dtype {dtype} goes on with it")));
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

/// What ends a run before its last step, if it has come to that.
fn ended_by(run: &Fit, position: &Position) -> Option<&'static str> {
    if position.guard.is_some_and(|guarded| guarded.beyond) {
        return Some("guard");
    }
    let impatient = run.patience > 0 && position.worse >= run.patience;
    (impatient && position.step < run.total).then_some("patience")
}

/// Every step draws its dropout from a seed of its own, so that resuming needs no generator's state.
fn step_seed(seed: u64, step: u64) -> i64 {
    use rand::RngCore;
    crate::random::generator("dropout", seed, step).next_u64() as i64
}

/// One optimizer step. The loss of each micro-batch is divided by the predictions of the whole step. Gives the loss and
/// the norm of the gradient, on the device; nothing where there was nothing to predict.
fn train(
    task: &dyn Task,
    optimizer: &mut AdamW,
    step: &Step,
    seed: i64,
    lr: f64,
) -> Option<(Tensor, Tensor)> {
    if step.weight == 0.0 {
        // Short texts: no token of any of them was chosen; or classes of no weight.
        optimizer.skip();
        return None;
    }
    tch::manual_seed(seed);
    let mut sum = Tensor::from(0f32).to_device(step.device());
    for micro in step.micros.iter().filter(|micro| micro.predicts()) {
        let loss = task.loss(micro) / step.weight;
        loss.backward();
        sum += loss.detach();
        if step.micros.len() > 1 {
            optimizer.fold();
        }
    }
    let norm = optimizer.step(lr, Some(&sum));
    Some((sum, norm))
}

/// Writes a line of what the steps since the last one showed.
fn write(
    window: &mut Window,
    run: &mut Fit,
    at: &Position,
    lr: f64,
    (tokens, passed): (u64, Duration),
    watch: &mut Watch,
) -> Result<()> {
    let (loss, norm) = window.take().unzip();
    let (step, seconds) = (at.step, passed.as_secs_f64());
    let rate = tokens as f64 / seconds;
    let event = json!({
        "event": "step", "step": step, "loss": loss, "lr": lr, "grad_norm": norm,
        "tokens": tokens, "seconds": seconds, "tokens_per_s": rate,
    });
    run.log.measured(event, run.device)?;
    let Some(loss) = loss else { return Ok(()) };
    (watch.progress)(step, loss, rate);
    if let Some(usual) = window.leaps(loss) {
        run.log.write(&json!({"event": "leap", "step": step, "loss": loss, "usual": usual}))?;
        (watch.note)(format!("the loss leaps to {loss:.3} at step {step}; {usual:.3} is usual"));
    }
    Ok(())
}

/// Passes over steps that went wrong: they changed no weight. Fails once there are more of them than are borne; the state
/// that was saved last stays.
fn pass_over(
    broken: Vec<Broken>,
    run: &mut Fit,
    position: &mut Position,
    watch: &Watch,
) -> Result<()> {
    for broken in broken {
        run.log.write(&broken.event())?;
        if position.passed_over < run.args.skip_nan {
            position.passed_over += 1;
            (watch.note)(format!("passed over: {}", broken.cause()));
            continue;
        }
        let cure = format!(
            "a lower --lr or more --warmup may help; --skip-nan {} passes over such steps",
            run.args.skip_nan + 1
        );
        return Err(fault(broken.cause(), cure));
    }
    Ok(())
}

/// Scores the weights as they are; keeps them if they are the best so far.
fn evaluate(
    task: &dyn Task,
    optimizer: &AdamW,
    run: &mut Fit,
    position: &mut Position,
    best: &mut Option<Best>,
) -> Result<()> {
    let Some(Evaluation { scores, degenerate }) = no_grad(|| task.evaluate())? else {
        return Ok(());
    };
    run.log.write(&json!({"event": "eval", "step": position.step, "scores": scores}))?;
    let Some((metric, more)) = run.metric else { return Ok(()) };
    let score = scores[metric].as_f64();
    let cause = || format!("the {metric} of the evaluation is not a number");
    let score = score.ok_or_else(|| fault(cause(), "--metric chooses another score"))?;
    if let Some(reduction) = &run.reduction {
        position.plateau.see(score, more, run.schedule.at(position.step), reduction);
    }
    if !run.keep_best {
        return Ok(());
    }
    let better = best.as_ref().is_none_or(|Best { mark, .. }| match more {
        true => score > mark.score,
        false => score < mark.score,
    });
    position.worse = if better { 0 } else { position.worse + 1 };
    if better {
        let mark = Mark { step: position.step, score, degenerate };
        *best = Some(Best::new(mark, optimizer));
    }
    Ok(())
}

impl Best {
    /// The weights as they are.
    pub fn new(mark: Mark, optimizer: &AdamW) -> Self {
        let copy = |tensor: &Tensor| no_grad(|| tensor.to_device(Device::Cpu).copy());
        let tensors = optimizer.parameters().map(|(name, tensor)| (name.clone(), copy(tensor)));
        Self { mark, tensors: tensors.collect() }
    }

    /// Puts the kept weights back into the model.
    pub fn restore(&self, optimizer: &mut AdamW) -> Result<()> {
        optimizer.set_parameters(self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }
}
