//! The learning rate as a pure function of the step, as in transformers' `get_…_schedule_with_warmup`.

use std::f64::consts::PI;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::flags::{not_negative, usage};

/// What the learning rate does after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Falls to 0 in a straight line
    Linear,
    /// Falls to 0 along half a cosine
    Cosine,
    /// Stays
    Constant,
}

/// The learning rate and its course, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ScheduleArgs {
    /// Peak learning rate
    #[arg(long, default_value = "5e-5", value_parser = not_negative)]
    pub lr: f64,

    /// Warm-up: steps, or a share of all steps if below 1
    #[arg(long, default_value_t = 0.06, value_parser = not_negative)]
    pub warmup: f64,

    /// What the learning rate does after warm-up
    #[arg(long, value_enum, default_value_t = Shape::Linear)]
    pub schedule: Shape,
}

/// The course of the learning rate over a run of `total` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    lr: f64,
    warmup: f64,
    total: f64,
    shape: Shape,
}

impl ScheduleArgs {
    /// Fails if warm-up is longer than the run.
    pub fn over(&self, total: u64) -> Result<Schedule> {
        let warmup =
            if self.warmup < 1.0 { (self.warmup * total as f64).ceil() } else { self.warmup };
        ensure!(
            warmup <= total as f64,
            usage(format!("--warmup {warmup}: the run has {total} steps"))
        );
        Ok(Schedule { lr: self.lr, warmup, total: total as f64, shape: self.schedule })
    }
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup {
            return self.lr * step / self.warmup.max(1.0);
        }
        let done = (step - self.warmup) / (self.total - self.warmup).max(1.0);
        self.lr
            * match self.shape {
                Shape::Linear => (1.0 - done).max(0.0),
                Shape::Cosine => 0.5 * (1.0 + (PI * done).cos()),
                Shape::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(shape: Shape, warmup: f64, step: u64) -> f64 {
        let args = ScheduleArgs { lr: 2.0, warmup, schedule: shape };
        args.over(10).unwrap().at(step)
    }

    #[test]
    fn linear_rises_and_falls() {
        let course: Vec<f64> = (0..10).map(|step| at(Shape::Linear, 2.0, step)).collect();
        assert_eq!(course[..3], [0.0, 1.0, 2.0]);
        assert_eq!(course[6], 1.0);
        assert!((course[9] - 0.25).abs() < 1e-12);
    }

    #[test]
    fn others() {
        assert_eq!(at(Shape::Constant, 0.0, 9), 2.0);
        assert!((at(Shape::Cosine, 0.0, 5) - 1.0).abs() < 1e-12);
        assert_eq!(at(Shape::Linear, 0.15, 2), 2.0);
    }
}
