//! The learning rate as a function of the step, as transformers' `get_scheduler` has it under the same names.

use std::f64::consts::PI;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::plateau::Reduction;
use crate::flags::{Failure, count, not_negative, share, usage};

/// What the learning rate does after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Shape {
    /// Falls to 0 in a straight line
    Linear,
    /// Falls to 0 along half a cosine, or --cycles of it
    Cosine,
    /// Falls to 0 along half a cosine, --cycles times from the top
    CosineWithRestarts,
    /// Falls to --min-lr (default 1e-7) as a power, --power
    Polynomial,
    /// Stays; no warm-up
    Constant,
    /// Stays after warm-up
    ConstantWithWarmup,
    /// Falls as one over the root of the step
    InverseSqrt,
    /// Stays until evaluations get no better, and is cut then; no warm-up
    ReduceLrOnPlateau,
    /// Falls to --min-lr along half a cosine
    CosineWithMinLr,
    /// The same, warm-up and cosine one step ahead: no step at a rate of 0
    CosineWarmupWithMinLr,
    /// Stays after warm-up and falls to --min-lr (default 0) at the end, over --decay
    WarmupStableDecay,
}

use Shape::{
    Constant, ConstantWithWarmup, Cosine, CosineWarmupWithMinLr, CosineWithMinLr,
    CosineWithRestarts, InverseSqrt, Linear, Polynomial, ReduceLrOnPlateau, WarmupStableDecay,
};

/// How a `warmup_stable_decay` falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Fall {
    #[serde(rename = "linear")]
    Linear,
    #[serde(rename = "cosine")]
    Cosine,
    #[serde(rename = "1-sqrt")]
    #[value(name = "1-sqrt")]
    Root,
}

/// The learning rate and its course, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ScheduleArgs {
    /// Peak learning rate
    #[arg(long, default_value = "5e-5", value_parser = not_negative)]
    pub lr: f64,

    /// Warm-up: steps, or a share of all steps if below 1 [default: 0.06; 0 where there is none]
    #[arg(long, default_value_t = 0.06, hide_default_value = true, value_parser = not_negative)]
    #[arg(default_value_ifs = [("schedule", "constant", "0"), ("schedule", "reduce_lr_on_plateau", "0")])]
    pub warmup: f64,

    /// What the learning rate does after warm-up
    #[arg(long, value_enum, default_value_t = Linear)]
    pub schedule: Shape,

    /// Lowest learning rate, of schedules that end above 0
    #[arg(long, value_parser = not_negative)]
    pub min_lr: Option<f64>,

    /// Waves of a cosine [default: 0.5], or how often one with restarts begins [default: 1]
    #[arg(long, value_name = "N", value_parser = not_negative)]
    pub cycles: Option<f64>,

    /// Power of polynomial [default: 1]
    #[arg(long, value_parser = not_negative)]
    pub power: Option<f64>,

    /// Steps after which inverse_sqrt has fallen by a root of 2 [default: warm-up, or 10000 without]
    #[arg(long, value_name = "STEPS", value_parser = count)]
    pub timescale: Option<u64>,

    /// Decay of warmup_stable_decay: steps, or a share of all steps if below 1 [default: 0.1]
    #[arg(long, value_name = "STEPS", value_parser = not_negative)]
    pub decay: Option<f64>,

    /// How warmup_stable_decay falls [default: cosine]
    #[arg(long, value_enum)]
    pub decay_type: Option<Fall>,

    /// What reduce_lr_on_plateau multiplies the learning rate by [default: 0.1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub plateau_factor: Option<f64>,

    /// Evaluations without a better score that reduce_lr_on_plateau lets pass [default: 10]
    #[arg(long, value_name = "N")]
    pub plateau_patience: Option<u64>,
}

impl Default for ScheduleArgs {
    fn default() -> Self {
        Self {
            lr: 5e-5,
            warmup: 0.06,
            schedule: Linear,
            min_lr: None,
            cycles: None,
            power: None,
            timescale: None,
            decay: None,
            decay_type: None,
            plateau_factor: None,
            plateau_patience: None,
        }
    }
}

/// The course of the learning rate over a run of `total` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    lr: f64,
    warmup: f64,
    total: f64,
    shape: Shape,
    /// The lowest rate, as a share of the peak.
    least: f64,
    cycles: f64,
    power: f64,
    timescale: f64,
    /// Steps of decay, and how it falls.
    decay: (f64, Fall),
}

/// Steps, or a share of `total` if below 1.
fn steps(value: f64, total: u64) -> f64 {
    if value < 1.0 { (value * total as f64).ceil() } else { value }
}

impl ScheduleArgs {
    /// Fails on flags the schedule does not heed, and where it does not fit into the run.
    pub fn over(&self, total: u64) -> Result<Schedule> {
        self.check()?;
        let warmup = steps(self.warmup, total);
        let decay = match self.schedule {
            WarmupStableDecay => steps(self.decay.unwrap_or(0.1), total),
            _ => 0.0,
        };
        let room = total as f64;
        ensure!(warmup <= room, usage(format!("--warmup {warmup}: the run has {total} steps")));
        let both = format!("--warmup {warmup} and --decay {decay}: the run has {total} steps");
        ensure!(warmup + decay <= room, usage(both));
        let whole = if self.schedule == CosineWithRestarts { 1.0 } else { 0.5 };
        let least = self.min_lr.unwrap_or(if self.schedule == Polynomial { 1e-7 } else { 0.0 });
        Ok(Schedule {
            lr: self.lr,
            warmup,
            total: room,
            shape: self.schedule,
            least: if self.lr > 0.0 { least / self.lr } else { 0.0 },
            cycles: self.cycles.unwrap_or(whole),
            power: self.power.unwrap_or(1.0),
            timescale: match self.timescale {
                Some(timescale) => timescale as f64,
                None if warmup > 0.0 => warmup,
                None => 10_000.0,
            },
            decay: (decay, self.decay_type.unwrap_or(Fall::Cosine)),
        })
    }

    /// How to cut the rate where evaluations get no better; nothing for a schedule that does not ask them.
    pub fn reduction(&self) -> Option<Reduction> {
        (self.schedule == ReduceLrOnPlateau).then(|| Reduction {
            factor: self.plateau_factor.unwrap_or(0.1),
            patience: self.plateau_patience.unwrap_or(10),
            min_lr: self.min_lr.unwrap_or(0.0),
        })
    }

    fn check(&self) -> Result<(), Failure> {
        let name = self.schedule.to_possible_value();
        let name = name.as_ref().map_or("", |name| name.get_name());
        let unheeded =
            |flag: &str| Err(usage(format!("{flag}: --schedule {name} has no use for it")));
        for (flag, given, heeding) in self.heeded() {
            if given && !heeding.contains(&self.schedule) {
                return unheeded(flag);
            }
        }
        if self.warmup > 0.0 && [Constant, ReduceLrOnPlateau].contains(&self.schedule) {
            return unheeded("--warmup");
        }
        match self.min_lr {
            Some(min) if min > self.lr => {
                Err(usage(format!("--min-lr {min} is above --lr {}", self.lr)))
            }
            None if [CosineWithMinLr, CosineWarmupWithMinLr].contains(&self.schedule) => {
                Err(usage(format!("--schedule {name}: --min-lr is wanted")))
            }
            _ => Ok(()),
        }
    }

    /// Flags that only some schedules heed: whether they were given, and those schedules.
    fn heeded(&self) -> [(&'static str, bool, &'static [Shape]); 8] {
        const ENDS: [Shape; 5] = [
            Polynomial,
            CosineWithMinLr,
            CosineWarmupWithMinLr,
            WarmupStableDecay,
            ReduceLrOnPlateau,
        ];
        const WAVES: [Shape; 5] =
            [Cosine, CosineWithRestarts, CosineWithMinLr, CosineWarmupWithMinLr, WarmupStableDecay];
        [
            ("--min-lr", self.min_lr.is_some(), &ENDS),
            ("--cycles", self.cycles.is_some(), &WAVES),
            ("--power", self.power.is_some(), &[Polynomial]),
            ("--timescale", self.timescale.is_some(), &[InverseSqrt]),
            ("--decay", self.decay.is_some(), &[WarmupStableDecay]),
            ("--decay-type", self.decay_type.is_some(), &[WarmupStableDecay]),
            ("--plateau-factor", self.plateau_factor.is_some(), &[ReduceLrOnPlateau]),
            ("--plateau-patience", self.plateau_patience.is_some(), &[ReduceLrOnPlateau]),
        ]
    }
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup { self.lr * self.rise(step) } else { self.lr * self.after(step) }
    }

    /// The share of the peak during warm-up.
    fn rise(&self, step: f64) -> f64 {
        let part = step / self.warmup.max(1.0);
        match self.shape {
            CosineWarmupWithMinLr => (step + 1.0) / self.warmup.max(1.0),
            WarmupStableDecay => self.above(part),
            _ => part,
        }
    }

    /// The share of the peak after warm-up.
    fn after(&self, step: f64) -> f64 {
        let span = (self.total - self.warmup).max(1.0);
        let done = (step - self.warmup) / span;
        match self.shape {
            Linear => (1.0 - done).max(0.0),
            Cosine => self.wave(done).max(0.0),
            CosineWithRestarts => 0.5 * (1.0 + (PI * (self.cycles * done).fract()).cos()),
            Polynomial => self.above((1.0 - done).powf(self.power)),
            Constant | ConstantWithWarmup | ReduceLrOnPlateau => 1.0,
            InverseSqrt => ((step + self.timescale - self.warmup) / self.timescale).sqrt().recip(),
            CosineWithMinLr => self.above(self.wave(done)).max(0.0),
            CosineWarmupWithMinLr => self.above(self.wave(done + 1.0 / span)).max(0.0),
            WarmupStableDecay => self.stable(step),
        }
    }

    fn stable(&self, step: f64) -> f64 {
        let (decay, fall) = self.decay;
        let done = (step - (self.total - decay)) / decay.max(1.0);
        if done < 0.0 {
            return 1.0;
        }
        let share = match fall {
            Fall::Linear => 1.0 - done,
            Fall::Cosine => self.wave(done),
            Fall::Root => 1.0 - done.sqrt(),
        };
        self.above(share).max(0.0)
    }

    fn wave(&self, done: f64) -> f64 {
        0.5 * (1.0 + (PI * self.cycles * 2.0 * done).cos())
    }

    /// A share of the way from the lowest rate to the peak, as a share of the peak.
    fn above(&self, share: f64) -> f64 {
        share * (1.0 - self.least) + self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(shape: Shape, warmup: f64, more: ScheduleArgs) -> Vec<f64> {
        let args = ScheduleArgs { lr: 2.0, warmup, schedule: shape, ..more };
        let schedule = args.over(10).unwrap();
        (0..10).map(|step| schedule.at(step)).collect()
    }

    fn plain(shape: Shape, warmup: f64) -> Vec<f64> {
        course(shape, warmup, ScheduleArgs::default())
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} and {b}");
    }

    #[test]
    fn linear_rises_and_falls() {
        let course = plain(Linear, 2.0);
        assert_eq!(course[..3], [0.0, 1.0, 2.0]);
        assert_eq!(course[6], 1.0);
        close(course[9], 0.25);
        assert_eq!(plain(Linear, 0.15)[2], 2.0);
    }

    #[test]
    fn the_others_by_hand() {
        assert_eq!(plain(Constant, 0.0), [2.0; 10]);
        assert_eq!(plain(ConstantWithWarmup, 2.0)[..3], [0.0, 1.0, 2.0]);
        close(plain(Cosine, 0.0)[5], 1.0);
        let twice = ScheduleArgs { cycles: Some(2.0), ..Default::default() };
        assert_eq!(course(CosineWithRestarts, 0.0, twice)[5], 2.0);
        let square = ScheduleArgs { power: Some(2.0), min_lr: Some(1.0), ..Default::default() };
        close(course(Polynomial, 0.0, square)[5], 1.25);
        close(plain(InverseSqrt, 2.0)[8], 1.0);
        let least = ScheduleArgs { min_lr: Some(0.5), ..Default::default() };
        close(course(CosineWithMinLr, 0.0, least.clone())[5], 1.25);
        close(course(CosineWarmupWithMinLr, 2.0, least.clone())[9], 0.5);
        let stable = course(WarmupStableDecay, 2.0, ScheduleArgs { decay: Some(4.0), ..least });
        assert_eq!(stable[..7], [0.5, 1.25, 2.0, 2.0, 2.0, 2.0, 2.0]);
        close(stable[8], 1.25);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cause = |args: ScheduleArgs| args.over(10).unwrap_err().to_string();
        let bare = ScheduleArgs::default;
        assert!(
            cause(ScheduleArgs { power: Some(2.0), ..bare() })
                .starts_with("--power: --schedule linear")
        );
        assert!(cause(ScheduleArgs { schedule: Constant, ..bare() }).starts_with("--warmup:"));
        assert!(
            cause(ScheduleArgs { schedule: CosineWithMinLr, ..bare() })
                .ends_with("--min-lr is wanted")
        );
        let high = ScheduleArgs { schedule: Polynomial, min_lr: Some(1.0), ..bare() };
        assert_eq!(cause(high), "--min-lr 1 is above --lr 0.00005");
        let long =
            ScheduleArgs { schedule: WarmupStableDecay, warmup: 6.0, decay: Some(5.0), ..bare() };
        assert_eq!(cause(long), "--warmup 6 and --decay 5: the run has 10 steps");
    }
}
