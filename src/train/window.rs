//! What the steps since the last line of the log showed, and which of them went wrong.

use std::collections::VecDeque;

use anyhow::Result;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Means of so many lines of the log are what a new one is held against.
const MEMORY: usize = 20;
/// Fewer tell too little.
const FEW: usize = 5;
/// A smaller rise of the loss is none, in nats: near 0 any loss is many times another.
const RISE: f64 = 0.3;

/// An optimizer step that was taken; its numbers stay on the device until they are read.
#[derive(Debug)]
pub struct Taken {
    /// Counted from 1.
    pub step: u64,
    pub loss: Tensor,
    /// Of the gradient, before clipping.
    pub norm: Tensor,
    /// The rows it took, as numbered in their source.
    pub rows: Vec<u64>,
}

/// A step whose loss or gradient was not finite: it changed no weight.
#[derive(Debug)]
pub struct Broken {
    pub step: u64,
    loss: f64,
    norm: f64,
    rows: Vec<u64>,
}

/// What is yet to be written down.
#[derive(Debug, Default)]
pub struct Window {
    unread: Vec<Taken>,
    loss: f64,
    norm: f64,
    /// Good steps that had something to predict.
    steps: u64,
    before: VecDeque<f64>,
}

impl Window {
    pub fn add(&mut self, taken: Taken) {
        self.unread.push(taken);
    }

    /// Whether reading waits for nothing.
    pub fn is_ready(&self) -> bool {
        self.unread.iter().all(|taken| taken.norm.device() == Device::Cpu)
    }

    /// Reads what the steps showed: here the device is waited for. Gives those that went wrong.
    pub fn read(&mut self) -> Result<Vec<Broken>> {
        if self.unread.is_empty() {
            return Ok(Vec::new());
        }
        let numbers = |of: fn(&Taken) -> &Tensor| -> Result<Vec<f64>> {
            let all = self.unread.iter().map(|taken| of(taken).to_kind(Kind::Double));
            let all = Tensor::stack(&all.collect::<Vec<_>>(), 0).to_device(Device::Cpu);
            Ok(Vec::try_from(all)?)
        };
        let (losses, norms) = (numbers(|taken| &taken.loss)?, numbers(|taken| &taken.norm)?);
        let mut broken = Vec::new();
        for (taken, (loss, norm)) in self.unread.drain(..).zip(losses.into_iter().zip(norms)) {
            if loss.is_finite() && norm.is_finite() {
                (self.loss, self.norm, self.steps) = (self.loss + loss, norm, self.steps + 1);
            } else {
                broken.push(Broken { step: taken.step, loss, norm, rows: taken.rows });
            }
        }
        Ok(broken)
    }

    /// The mean loss since the last line and the last norm, if a step went well; forgets both.
    pub fn take(&mut self) -> Option<(f64, f64)> {
        let mean = (self.steps > 0).then(|| (self.loss / self.steps as f64, self.norm));
        (self.loss, self.norm, self.steps) = (0.0, 0.0, 0);
        mean
    }

    /// The median of the means before, where this one is far above all that is usual.
    pub fn leaps(&mut self, mean: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = self.before.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        if self.before.len() == MEMORY {
            self.before.pop_front();
        }
        self.before.push_back(mean);
        let (median, most) = (*sorted.get(sorted.len() / 2)?, *sorted.last()?);
        let far = mean > 2.0 * median && mean > 1.5 * most && mean > most + RISE;
        (sorted.len() >= FEW && far).then_some(median)
    }
}

impl Broken {
    /// What was wrong, in words.
    pub fn cause(&self) -> String {
        const SHOWN: usize = 8;
        let what = if self.loss.is_finite() { "gradient" } else { "loss" };
        let rows = self.rows.iter().take(SHOWN).map(u64::to_string).collect::<Vec<_>>().join(", ");
        let more = match self.rows.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("the {what} of step {} is not a number; its rows: {rows}{more}", self.step)
    }

    /// The line of the log.
    pub fn event(&self) -> Value {
        let Self { step, loss, norm, rows } = self;
        json!({"event": "skip", "step": step, "loss": loss, "grad_norm": norm, "rows": rows})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_far_above_what_was() {
        let mut window = Window::default();
        let usual = [2.0, 1.9, 2.1, 1.8, 1.9];
        assert!(usual.iter().all(|&mean| window.leaps(mean).is_none()));
        assert_eq!(window.leaps(3.7), None);
        assert_eq!(window.leaps(6.0), Some(2.0));
    }

    #[test]
    fn a_small_loss_may_be_many_times_another() {
        let mut window = Window::default();
        let losses = [0.001, 0.002, 0.001, 0.003, 0.001, 0.2];
        assert!(losses.iter().all(|&mean| window.leaps(mean).is_none()));
        assert_eq!(window.leaps(0.7), Some(0.002));
    }

    #[test]
    fn broken_steps_are_told_from_good_ones() {
        let mut window = Window::default();
        let taken = |step, loss: f64, norm: f64| Taken {
            step,
            loss: Tensor::from(loss),
            norm: Tensor::from(norm),
            rows: (0..10).collect(),
        };
        window.add(taken(1, 2.0, 1.0));
        window.add(taken(2, f64::NAN, f64::NAN));
        window.add(taken(3, 4.0, f64::INFINITY));
        window.add(taken(4, 3.0, 0.5));
        let causes: Vec<String> = window.read().unwrap().iter().map(Broken::cause).collect();
        let rows = "is not a number; its rows: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more";
        assert_eq!(
            causes,
            [format!("the loss of step 2 {rows}"), format!("the gradient of step 3 {rows}")]
        );
        assert_eq!(window.take(), Some((2.5, 0.5)));
        assert_eq!(window.take(), None);
    }
}
