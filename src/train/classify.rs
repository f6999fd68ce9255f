//! Sequence classification and regression: rows from labelled shards, labels joined to the model's by name.

use std::io::Write;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, json};
use tch::Tensor;

use super::batches::{BatchArgs, Feed, Item, Micro, Rows, Step};
use super::evaluate;
use super::fit::{Evaluation, Task};
use super::objective::Objective;
use super::windows::best;
use crate::flags::fault;
use crate::model::SequenceClassifier;
use crate::native::Place;
use crate::nn::Ids;
use crate::shard::{Labels, Problem, Shard, View, in_digits};

/// Names in an error; a model may have a hundred thousand.
const NAMED: usize = 10;

fn unknown(name: &str, labels: &Labels) -> anyhow::Error {
    let names = labels.names();
    let known = names[..names.len().min(NAMED)].join(", ");
    let rest = if names.len() > NAMED { ", …" } else { "" };
    let cure = match names[0].starts_with("LABEL_") {
        true => {
            "name them in config.json of the model's directory: {\"id2label\": {\"0\": \"NAME\", …}}"
        }
        false => "a model learns its names from the shards it is fine-tuned on",
    };
    fault(format!("unknown label {name:?}; the model knows {known}{rest}"), cure)
}

/// A labelled shard whose labels are in terms of a model's.
#[derive(Debug)]
pub struct Labelled<'a> {
    pub shard: &'a Shard,
    pub problem: Problem,
    texts: Vec<Range<usize>>,
    /// The model's number of each of the shard's classes.
    numbers: Vec<usize>,
    /// Classes of the model.
    classes: usize,
}

impl<'a> Labelled<'a> {
    /// Fails if the shard has no labels, or others than the model is for, or names a class the model does not know.
    pub fn new(shard: &'a Shard, labels: &Labels, problem: Problem) -> Result<Self> {
        ensure!(!shard.is_masked(), "it is masked; a classifier is for texts as they are");
        ensure!(!shard.is_empty(), "it has no sequences");
        ensure!(
            shard.is_labelled(),
            fault(
                "it has no labels",
                "prep writes them where the data has a label column (--label)"
            )
        );
        let (own, wanted) = (shard.problem().name(), problem.name());
        let cause = || format!("its labels are for {own}, the model is for {wanted}");
        ensure!(own == wanted, fault(cause(), flags_of(problem)));
        ensure!(!labels.names().is_empty(), "no text of it has a label");
        let number = |name: &String| labels.find(name).ok_or_else(|| unknown(name, labels));
        let numbers = match problem {
            Problem::Regression => Vec::new(),
            _ => shard.labels().names().iter().map(number).collect::<Result<_>>()?,
        };
        let (texts, classes) = (shard.windows(), labels.names().len());
        Ok(Self { shard, problem, texts, numbers, classes })
    }

    /// Classes of the model.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The sequences of each text: one, or its windows.
    pub fn texts(&self) -> &[Range<usize>] {
        &self.texts
    }

    pub fn example(&self, i: usize) -> Item {
        let view = self.shard.view(i);
        let class = view.label.map(|label| self.numbers[label] as i64);
        let numbers = self.numbers_of(i);
        Item { targets: class.into_iter().collect(), numbers, ..unlabelled(&view) }
    }

    /// The number of sequence `i`, or 1 and 0 for the model's classes it has and has not; none where it has one class.
    fn numbers_of(&self, i: usize) -> Vec<f32> {
        let own = || self.shard.numbers(i);
        match self.problem {
            Problem::Classes => Vec::new(),
            Problem::Regression => own(),
            Problem::MultiLabel => {
                let mut all = vec![0.0; self.classes];
                self.numbers.iter().zip(own()).for_each(|(&class, is)| all[class] = is);
                all
            }
        }
    }

    /// The numbers of a text.
    pub fn numbers(&self, text: usize) -> Vec<f32> {
        self.numbers_of(self.texts[text].start)
    }

    /// Sequences of each class, of the model's.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.classes];
        let labels = (0..self.shard.len()).filter_map(|i| self.shard.view(i).label);
        labels.for_each(|label| counts[self.numbers[label]] += 1);
        counts
    }

    /// The class of a text, as the model numbers it.
    pub fn class(&self, text: usize) -> usize {
        let label = self.shard.view(self.texts[text].start).label;
        label.map_or(0, |label| self.numbers[label])
    }

    /// Writes a JSON line for a text: what it is, what is predicted, and where there are classes the probability
    /// `said[class]` of every one.
    pub fn write_prediction(
        &self,
        out: &mut impl Write,
        names: &[String],
        (text, said): (usize, &[f32]),
    ) -> Result<()> {
        let (gold, pred) = match self.problem {
            Problem::Classes => (json!(names[self.class(text)]), json!(names[best(said)])),
            Problem::MultiLabel => {
                (json!(chosen(names, &self.numbers(text))), json!(chosen(names, said)))
            }
            Problem::Regression => (in_digits(self.numbers(text)[0]), in_digits(said[0])),
        };
        let row = self.shard.view(self.texts[text].start).row;
        let mut line = json!({"row": row, "gold": gold, "pred": pred});
        if self.problem != Problem::Regression {
            let named = names.iter().cloned().zip(said.iter().map(|p| json!(p)));
            line["probs"] = named.collect::<Map<_, _>>().into();
        }
        Ok(writeln!(out, "{line}")?)
    }
}

/// How prep writes labels of this kind.
fn flags_of(problem: Problem) -> &'static str {
    match problem {
        Problem::Classes => "without --multi-label and --regression prep reads one class a text",
        Problem::MultiLabel => "prep --multi-label reads any number of labels",
        Problem::Regression => "prep --regression reads numbers",
    }
}

/// The probability from which a text is said to have a class.
pub const THRESHOLD: f32 = 0.5;

/// The names of the classes of such a probability.
pub fn chosen<'n>(names: &'n [String], probs: &[f32]) -> Vec<&'n str> {
    let pairs = names.iter().zip(probs).filter(|(_, prob)| **prob >= THRESHOLD);
    pairs.map(|(name, _)| name.as_str()).collect()
}

/// A sequence with nothing to predict.
pub fn unlabelled(view: &View) -> Item {
    let ids = Ids { tokens: view.tokens.iter().collect(), second: view.second };
    Item { ids, ..Default::default() }
}

/// Labelled examples, and what each counts for.
#[derive(Debug)]
pub struct Weighed<'a> {
    rows: Labelled<'a>,
    objective: &'a Objective,
}

impl Rows for Weighed<'_> {
    fn count(&self) -> usize {
        self.rows.shard.len()
    }

    fn enter(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn row(&self, i: usize) -> u64 {
        self.rows.shard.view(i).row
    }

    fn item(&self, i: usize) -> Item {
        self.rows.example(i)
    }

    fn weight(&self, item: &Item) -> f64 {
        let classes: f64 = item.targets.iter().map(|&class| self.objective.weight(class)).sum();
        classes + item.numbers.len() as f64
    }
}

/// Classification as a task to fit.
pub struct Classification<'a> {
    pub model: &'a SequenceClassifier,
    pub feed: Feed<Weighed<'a>>,
    eval: Option<Labelled<'a>>,
    labels: &'a Labels,
    objective: &'a Objective,
    place: Place,
}

impl<'a> Classification<'a> {
    pub fn new(
        (model, objective): (&'a SequenceClassifier, &'a Objective),
        (train, eval): (Labelled<'a>, Option<&'a Shard>),
        labels: &'a Labels,
        args: &BatchArgs,
        (seed, place): (u64, Place),
    ) -> Result<Self> {
        let eval = eval.map(|shard| Labelled::new(shard, labels, train.problem));
        let eval = eval.transpose().context("--eval")?;
        let rows = Weighed { rows: train, objective };
        let feed = Feed::new(rows, args, seed, place)?;
        Ok(Self { model, feed, eval, labels, objective, place })
    }
}

impl Task for Classification<'_> {
    fn step(&mut self, step: u64) -> Result<Step> {
        let mut step = self.feed.step(step)?;
        step.micros.iter_mut().for_each(|micro| micro.batch.noise = self.objective.noise);
        Ok(step)
    }

    fn loss(&self, micro: &Micro) -> Tensor {
        self.objective.sum(&self.model.logits(&micro.batch, true), micro)
    }

    fn evaluate(&self) -> Result<Option<Evaluation>> {
        let Some(rows) = &self.eval else { return Ok(None) };
        let names = self.labels.names();
        let found = evaluate::labelled(self.model, rows, self.place, &mut ())?;
        Ok(Some(Evaluation { scores: found.scores(), degenerate: found.degenerate(names) }))
    }
}
