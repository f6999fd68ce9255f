//! A guard against forgetting: the loss on general text while a model is adapted to another. Gururangan et al. 2020 (table
//! 12) measured it once, when it was over.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::no_grad;

use super::adamw::AdamW;
use super::fit::{Best, Fit, Task, Watch};
use super::state::{Mark, Position};
use crate::flags::{fault, usage};

/// Nats above the start at which a guard without a limit warns. DAPT to four domains took RoBERTa 0.14 to 0.88 nats up
/// (Gururangan et al. 2020, table 12), and was worth it.
const MUCH: f64 = 1.0;

/// The guard, as flags.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct GuardArgs {
    /// A masked shard of general text: its loss is measured at the start and at every evaluation; 1 nat more is warned of.
    /// Here alone: what finetune trains has no MLM head
    #[arg(long, value_name = "MASKED_SHARD")]
    pub guard: Option<PathBuf>,

    /// With --guard: nats above the start at which the run ends, with the weights of the last evaluation that was within
    #[arg(long, value_name = "NATS", requires = "guard", value_parser = crate::flags::not_negative)]
    pub guard_limit: Option<f64>,
}

impl GuardArgs {
    /// Fails where the model knows nothing yet that it could forget.
    pub fn check(&self, from_scratch: bool, new_head: bool) -> Result<()> {
        let cause = "--guard: a model that starts from scratch has nothing to forget";
        let cure = "--eval scores it between steps";
        ensure!(self.guard.is_none() || !from_scratch, usage(cause).hint(cure));
        let cause =
            "--guard: what a new head says at the start is no measure of what the model knows";
        let cure =
            "train the head first, without --guard; what that gives is the model to start from";
        ensure!(self.guard.is_none() || !new_head, usage(cause).hint(cure));
        Ok(())
    }
}

/// What a guard has seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Guarded {
    /// The loss before the first step, in nats a masked token.
    before: f64,
    /// Whether it rose beyond the limit, which ends the run.
    pub beyond: bool,
}

/// Measures what later losses are held against, unless an earlier process of the run did.
pub fn begin(task: &dyn Task, run: &mut Fit, position: &mut Position, watch: &Watch) -> Result<()> {
    if position.guard.is_some() {
        return Ok(());
    }
    let Some(before) = no_grad(|| task.guarded())? else { return Ok(()) };
    let cause = "--guard: the loss is not a number at the start";
    ensure!(before.is_finite(), fault(cause, "are the weights of --model numbers?"));
    position.guard = Some(Guarded { before, beyond: false });
    run.log.write(&json!({"event": "guard", "step": 0, "nats": before, "before": before}))?;
    (watch.tell)(format!("guard: {before:.3} nats at the start"));
    Ok(())
}

/// Measures again. Where there is a limit, weights within it are kept, and a loss beyond it ends the run. Fails where no
/// evaluation was within.
pub fn look(
    (task, optimizer): (&dyn Task, &AdamW),
    run: &mut Fit,
    position: &mut Position,
    best: &mut Option<Best>,
    watch: &Watch,
) -> Result<()> {
    let Some(guarded) = &mut position.guard else { return Ok(()) };
    let Some(nats) = no_grad(|| task.guarded())? else { return Ok(()) };
    let (step, before) = (position.step, guarded.before);
    run.log.write(&json!({"event": "guard", "step": step, "nats": nats, "before": before}))?;
    let said = format!("guard: {nats:.3} nats after step {step}, {before:.3} at the start");
    // What is no number is within nothing.
    let within = |limit: f64| nats <= before + limit;
    match run.guard_limit {
        None if within(MUCH) => (watch.tell)(said),
        None => {
            (watch.note)(format!("{said}: the model forgets much; --guard-limit ends such a run"))
        }
        Some(limit) if within(limit) => {
            (watch.tell)(said);
            *best = Some(Best::new(Mark { step, score: nats, degenerate: None }, optimizer));
        }
        Some(limit) => {
            guarded.beyond = true;
            let cause = format!("{said}: more than --guard-limit {limit} above it");
            let cure =
                "a smaller --eval-every or --lr, or a higher --guard-limit, leaves weights to keep";
            ensure!(best.is_some(), fault(format!("{cause}, at the first evaluation"), cure));
            (watch.note)(cause);
        }
    }
    Ok(())
}
