//! Sequence classification: rows from labelled shards, labels joined to the model's by name.

use std::io::Write;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use super::batches::{BatchArgs, Feed, Item, Micro, Rows, Step};
use super::evaluate;
use super::fit::Task;
use super::windows::best;
use crate::flags::fault;
use crate::model::{SequenceClassifier, cross_entropy};
use crate::nn::Ids;
use crate::shard::{Labels, Shard, View};

/// A labelled shard whose labels are numbers of `labels`.
#[derive(Debug)]
pub struct Labelled<'a> {
    pub shard: &'a Shard,
    texts: Vec<Range<usize>>,
    numbers: Vec<i64>,
}

impl<'a> Labelled<'a> {
    /// Fails if the shard has no labels, or names a class the model does not know.
    pub fn new(shard: &'a Shard, labels: &Labels) -> Result<Self> {
        ensure!(!shard.is_masked(), "it is masked; a classifier is for texts as they are");
        ensure!(!shard.is_empty(), "it has no sequences");
        ensure!(
            shard.is_labelled(),
            fault(
                "it has no labels",
                "prep writes them where the data has a label column (--label)"
            )
        );
        let number = |name: &String| {
            let known = labels.names().join(", ");
            let at = labels.find(name);
            at.map(|at| at as i64)
                .with_context(|| format!("unknown label {name:?}; the model knows {known}"))
        };
        let numbers = shard.labels().names().iter().map(number).collect::<Result<_>>()?;
        Ok(Self { shard, texts: shard.windows(), numbers })
    }

    /// The sequences of each text: one, or its windows.
    pub fn texts(&self) -> &[Range<usize>] {
        &self.texts
    }

    pub fn example(&self, i: usize) -> Item {
        let view = self.shard.view(i);
        let label = view.label.map(|label| self.numbers[label]);
        Item { targets: label.into_iter().collect(), ..unlabelled(&view) }
    }

    /// Writes a JSON line for each text: its class, and the probability `all[text][class]` of every one.
    pub fn write_predictions(
        &self,
        out: &mut impl Write,
        names: &[String],
        all: &[Vec<f32>],
    ) -> Result<()> {
        for (text, probs) in all.iter().enumerate() {
            let named: Map<_, _> =
                names.iter().cloned().zip(probs.iter().map(|p| json!(p))).collect();
            let (gold, pred) = (&names[self.class(text)], &names[best(probs)]);
            let row = self.shard.view(self.texts[text].start).row;
            let line = json!({"row": row, "gold": gold, "pred": pred, "probs": named});
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// The class of a text, as the model numbers it.
    pub fn class(&self, text: usize) -> usize {
        self.shard
            .view(self.texts[text].start)
            .label
            .map_or(0, |label| self.numbers[label] as usize)
    }
}

/// A sequence with nothing to predict.
pub fn unlabelled(view: &View) -> Item {
    let ids = Ids { tokens: view.tokens.iter().collect(), second: view.second };
    Item { ids, ..Default::default() }
}

impl Rows for Labelled<'_> {
    fn count(&self) -> usize {
        self.shard.len()
    }

    fn enter(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn item(&self, i: usize) -> Item {
        self.example(i)
    }
}

/// Classification as a task to fit.
pub struct Classification<'a> {
    pub model: &'a SequenceClassifier,
    pub feed: Feed<Labelled<'a>>,
    eval: Option<Labelled<'a>>,
    labels: &'a Labels,
    device: Device,
}

impl<'a> Classification<'a> {
    pub fn new(
        model: &'a SequenceClassifier,
        (train, eval): (&'a Shard, Option<&'a Shard>),
        labels: &'a Labels,
        args: &BatchArgs,
        (seed, device): (u64, Device),
    ) -> Result<Self> {
        let rows = Labelled::new(train, labels).context("--train")?;
        let eval = eval.map(|shard| Labelled::new(shard, labels)).transpose().context("--eval")?;
        Ok(Self { model, feed: Feed::new(rows, args, seed, device)?, eval, labels, device })
    }
}

impl Task for Classification<'_> {
    fn step(&mut self, step: u64) -> Result<Step> {
        self.feed.step(step)
    }

    fn loss(&self, micro: &Micro) -> Tensor {
        cross_entropy(&self.model.logits(&micro.batch, true), &micro.targets)
    }

    fn evaluate(&self) -> Result<Option<Value>> {
        let Some(rows) = &self.eval else { return Ok(None) };
        let classes = self.labels.names().len();
        let scores = evaluate::classes(self.model, rows, classes, self.device, &mut |_, _| {})?;
        Ok(Some(scores.scores()))
    }
}
