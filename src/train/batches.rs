//! Batches: which sequences an optimizer step takes, and how they are split to fit in memory.

use anyhow::{Result, ensure};
use clap::Args;
use rand::seq::SliceRandom;
use serde::Serialize;
use tch::{Device, Tensor};

use super::micro::MicroTokens;
use crate::native::Place;
use crate::nn::{Batch, Ids};
use crate::random;
use crate::text::Encoded;

/// Sizes of batches, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct BatchArgs {
    /// Sequences per optimizer step
    #[arg(long, default_value_t = 32, value_parser = crate::flags::count)]
    pub batch: u64,

    /// Tokens per forward pass, or auto, as many as fit: bounds memory, changes no result beyond rounding
    #[arg(long, value_name = "N", default_value = "8192", value_parser = MicroTokens::parse)]
    pub micro_tokens: MicroTokens,

    /// Keep the input of each layer alone and compute the rest again on the way back: less memory, up to a third
    /// more time, no other result beyond rounding
    #[arg(long, visible_alias = "gradient-checkpointing")]
    pub activation_checkpointing: bool,
}

/// One training example: a sequence and what to predict of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    pub ids: Ids,
    /// Positions to predict, for a masked language model; empty for a classifier.
    pub masked: Vec<u32>,
    /// The ids at those positions, or the one class.
    pub targets: Vec<i64>,
    /// In place of a class: the number, or 1 and 0 for every class.
    pub numbers: Vec<f32>,
}

/// A text as it goes into a batch.
pub fn ids(encoded: Encoded) -> Ids {
    Ids { tokens: encoded.tokens, second: encoded.second.map(usize::from) }
}

/// Training examples by number, epoch by epoch.
pub trait Rows {
    /// Examples in an epoch.
    fn count(&self) -> usize;

    /// Goes to `epoch`; called in rising order.
    fn enter(&mut self, epoch: u64) -> Result<()>;

    /// Example `i` of the epoch that was entered.
    fn item(&self, i: usize) -> Item;

    /// The number in its source of example `i`.
    fn row(&self, i: usize) -> u64;

    /// What the loss of an example counts for in its step's.
    fn weight(&self, item: &Item) -> f64 {
        (item.targets.len() + item.numbers.len()) as f64
    }
}

/// What goes through the model at once.
#[derive(Debug)]
pub struct Micro {
    pub batch: Batch,
    /// Token positions to predict `[masked]`; empty for a classifier.
    pub masked: Tensor,
    /// What to predict `[masked]` or `[batch]`.
    pub targets: Tensor,
    /// The same where it is numbers `[batch, numbers]`.
    pub numbers: Tensor,
}

/// What one optimizer step takes.
#[derive(Debug)]
pub struct Step {
    pub micros: Vec<Micro>,
    /// What the predictions of the whole step count for: the loss is divided by it, however it is split.
    pub weight: f64,
    /// Tokens in the whole step.
    pub tokens: u64,
    /// The rows it takes, as numbered in their source.
    pub rows: Vec<u64>,
}

impl Step {
    pub fn new(items: &[Item], weight: f64, micro_tokens: u64, place: Place) -> Self {
        let lengths: Vec<usize> = items.iter().map(|item| item.ids.tokens.len()).collect();
        let groups = micro_batches(&lengths, micro_tokens as usize);
        let micro = |group: &Vec<usize>| Micro::new(group.iter().map(|&i| &items[i]), place);
        Self {
            micros: groups.iter().map(micro).collect(),
            weight,
            tokens: lengths.iter().sum::<usize>() as u64,
            rows: Vec::new(),
        }
    }

    pub fn device(&self) -> Device {
        self.micros.first().map_or(Device::Cpu, |micro| micro.targets.device())
    }
}

impl Micro {
    pub fn new<'a>(items: impl IntoIterator<Item = &'a Item>, place: impl Into<Place>) -> Self {
        let place = place.into();
        let device = place.device;
        let (mut start, items) = (0, items.into_iter().collect::<Vec<_>>());
        let (mut masked, mut targets): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
        for item in &items {
            masked.extend(item.masked.iter().map(|&at| start + i64::from(at)));
            targets.extend(&item.targets);
            start += item.ids.tokens.len() as i64;
        }
        let numbers: Vec<f32> = items.iter().flat_map(|item| &item.numbers).copied().collect();
        let each = items.first().map_or(0, |item| item.numbers.len()) as i64;
        Self {
            batch: Batch::new(items.iter().map(|item| &item.ids), place),
            masked: Tensor::from_slice(&masked).to_device(device),
            targets: Tensor::from_slice(&targets).to_device(device),
            numbers: Tensor::from_slice(&numbers).view([-1, each.max(1)]).to_device(device),
        }
    }

    /// Whether there is anything to predict.
    pub fn predicts(&self) -> bool {
        self.targets.numel() + self.numbers.numel() > 0
    }
}

/// Groups of sequences, longest first, of about equal length and at most `budget` tokens (or one sequence).
pub fn micro_batches(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut sorted: Vec<usize> = (0..lengths.len()).collect();
    sorted.sort_by_key(|&i| (std::cmp::Reverse(lengths[i]), i));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for i in sorted {
        match groups.last_mut() {
            Some(group) if lengths[i] <= room => group.push(i),
            _ => {
                groups.push(vec![i]);
                room = budget.max(lengths[i]);
            }
        }
        room -= lengths[i];
    }
    groups
}

/// The order of `n` examples in `epoch`: a function of (`seed`, `epoch`) alone.
pub fn order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut random::generator("order", seed, epoch));
    order
}

/// Optimizer steps cut from rows: shuffled anew each epoch, the last step of an epoch may be short.
#[derive(Debug)]
pub struct Feed<R> {
    pub rows: R,
    args: BatchArgs,
    seed: u64,
    place: Place,
    epoch: Option<u64>,
    order: Vec<usize>,
}

impl<R: Rows> Feed<R> {
    pub fn new(rows: R, args: &BatchArgs, seed: u64, place: Place) -> Result<Self> {
        ensure!(rows.count() > 0, "there is nothing to train on: the shard has no sequences");
        Ok(Self { rows, args: args.clone(), seed, place, epoch: None, order: Vec::new() })
    }

    pub fn steps_per_epoch(&self) -> u64 {
        (self.rows.count() as u64).div_ceil(self.args.batch)
    }

    /// Step `step` of the run, counted from 0; epochs passed over are skipped in constant time where rows can.
    pub fn step(&mut self, step: u64) -> Result<Step> {
        let epoch = step / self.steps_per_epoch();
        if self.epoch != Some(epoch) {
            self.rows.enter(epoch)?;
            self.order = order(self.rows.count(), self.seed, epoch);
            self.epoch = Some(epoch);
        }
        let from = (step % self.steps_per_epoch() * self.args.batch) as usize;
        let to = (from + self.args.batch as usize).min(self.order.len());
        let chosen = self.order[from..to].iter();
        let items: Vec<Item> = chosen.clone().map(|&i| self.rows.item(i)).collect();
        let weight = items.iter().map(|item| self.rows.weight(item)).sum();
        let rows = chosen.map(|&i| self.rows.row(i)).collect();
        let mut step = Step::new(&items, weight, self.args.micro_tokens.get(), self.place);
        let recomputes = self.args.activation_checkpointing;
        step.micros.iter_mut().for_each(|micro| micro.batch.recomputes = recomputes);
        Ok(Step { rows, ..step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_is_in_one_micro_batch() {
        let lengths = [5, 9, 2, 7, 30, 1];
        let groups = micro_batches(&lengths, 16);
        assert_eq!(groups, [vec![4], vec![1, 3], vec![0, 2, 5]]);
    }

    #[test]
    fn order_is_a_permutation_that_changes_with_the_epoch() {
        let (a, b) = (order(100, 1, 0), order(100, 1, 1));
        assert_ne!(a, b);
        assert_eq!(a, order(100, 1, 0));
        let mut sorted = a;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
