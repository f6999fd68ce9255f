//! Scores of a model on a shard: sorted by length, no gradient, results in the shard's order.

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, no_grad};

use super::batches::{Item, Micro, micro_batches};
use super::classify::Labelled;
use super::mlm::masked_item;
use super::windows::{best, classify, probabilities};
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

    /// What a score line says of `rows`, with these names of the classes.
    pub fn fields(&self, rows: &Labelled, names: &[String]) -> Map<String, Value> {
        let (texts, windows) = (rows.texts().len(), rows.shard.len());
        [
            ("examples", Some(json!(texts))),
            ("windows", Some(json!(windows)).filter(|_| windows > texts)),
            ("scores", Some(self.scores())),
            ("per_class", Some(json!(self.confusion.per_class(names)))),
            ("confusion", Some(self.confusion.to_json(names))),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
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

/// Scores `model` on labelled texts; `each` gets every text's number and probabilities, in no fixed order.
pub fn classes(
    model: &SequenceClassifier,
    rows: &Labelled,
    classes: usize,
    device: Device,
    each: &mut dyn FnMut(usize, Vec<f32>),
) -> Result<ClassScores> {
    let mut confusion = Confusion::new(classes);
    let (mut loss, lengths, texts) = (0.0, lengths(rows.shard), rows.texts());
    classify(model, &|i| rows.example(i).ids, &lengths, texts, device, &mut |text, logs| {
        let (gold, probs) = (rows.class(text), probabilities(&logs));
        loss -= logs[gold];
        confusion.add(gold, best(&probs));
        each(text, probs);
    })?;
    Ok(ClassScores { confusion, loss: loss / texts.len().max(1) as f64 })
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
