//! Scores of a model on a shard: sorted by length, no gradient, results in the shard's order.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

use super::batches::{Item, Micro, micro_batches};
use super::classify::Labelled;
use super::mlm::masked_item;
use crate::metrics::Confusion;
use crate::model::{MaskedLm, SequenceClassifier, cross_entropy};
use crate::shard::Shard;

/// Tokens per forward pass.
const BUDGET: usize = 8192;

/// Scores of a classifier on labelled examples.
#[derive(Debug)]
pub struct ClassScores {
    pub confusion: Confusion,
    /// Mean cross-entropy, nats.
    pub loss: f64,
}

impl ClassScores {
    pub fn scores(&self) -> Value {
        let c = &self.confusion;
        json!({
            "accuracy": c.accuracy(),
            "macro_f1": c.macro_f1(),
            "micro_f1": c.micro_f1(),
            "mcc": c.mcc(),
            "loss": self.loss,
        })
    }
}

/// Scores of a masked language model on fixed masks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MaskedScores {
    /// Masked tokens that were scored.
    pub masked: u64,
    nats: f64,
    correct: u64,
}

impl MaskedScores {
    pub fn scores(&self) -> Value {
        let count = self.masked.max(1) as f64;
        let nats = self.nats / count;
        json!({"nats": nats, "perplexity": nats.exp(), "accuracy": self.correct as f64 / count})
    }
}

/// Calls `each` with groups of rows and their micro-batch.
pub fn sweep(
    items: &dyn Fn(usize) -> Item,
    lengths: &[usize],
    device: Device,
    each: &mut dyn FnMut(&[usize], &Micro) -> Result<()>,
) -> Result<()> {
    for group in micro_batches(lengths, BUDGET) {
        let chosen: Vec<Item> = group.iter().map(|&i| items(i)).collect();
        let micro = Micro::new(&chosen, device);
        no_grad(|| each(&group, &micro))?;
    }
    Ok(())
}

/// Lengths of every sequence of a shard, in tokens.
pub fn lengths(shard: &Shard) -> Vec<usize> {
    (0..shard.len()).map(|i| shard.view(i).tokens.len()).collect()
}

/// Scores `model` on labelled rows; `each` gets every row's number and probabilities, in no fixed order.
pub fn classes(
    model: &SequenceClassifier,
    rows: &Labelled,
    classes: usize,
    device: Device,
    each: &mut dyn FnMut(usize, Vec<f32>),
) -> Result<ClassScores> {
    let mut confusion = Confusion::new(classes);
    let mut loss = 0.0;
    sweep(&|i| rows.example(i), &lengths(rows.shard), device, &mut |group, micro| {
        let logits = model.logits(&micro.batch, false);
        loss += cross_entropy(&logits, &micro.targets).double_value(&[]);
        for (&i, probs) in group.iter().zip(probabilities(&logits)?) {
            confusion.add(rows.class(i), best(&probs));
            each(i, probs);
        }
        Ok(())
    })?;
    Ok(ClassScores { confusion, loss: loss / rows.shard.len().max(1) as f64 })
}

/// The most probable class; the first of equals.
pub fn best(probs: &[f32]) -> usize {
    (0..probs.len()).fold(0, |best, i| if probs[i] > probs[best] { i } else { best })
}

/// Probabilities of each row, from logits `[rows, classes]`.
pub fn probabilities(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    let probs = logits.softmax(-1, Kind::Float).to_device(Device::Cpu);
    Ok(Vec::<Vec<f32>>::try_from(probs)?)
}

/// Scores `model` on a masked shard; `done` is told how many sequences are.
pub fn masked(
    model: &MaskedLm,
    shard: &Shard,
    device: Device,
    done: &mut dyn FnMut(usize),
) -> Result<MaskedScores> {
    ensure!(shard.is_masked(), "it is not masked");
    let mut scores = MaskedScores::default();
    let mut count = 0;
    sweep(&|i| masked_item(&shard.view(i)), &lengths(shard), device, &mut |group, micro| {
        let logits = model.logits(&micro.batch, &micro.masked, false);
        scores.masked += micro.targets.numel() as u64;
        scores.nats += cross_entropy(&logits, &micro.targets).double_value(&[]);
        let right = logits.argmax(-1, false).eq_tensor(&micro.targets).sum(Kind::Int64);
        scores.correct += right.int64_value(&[]) as u64;
        count += group.len();
        done(count);
        Ok(())
    })?;
    ensure!(scores.masked > 0, "no token of it is masked: there is nothing to score");
    Ok(scores)
}
