//! Masked language modelling: rows from plain shards, masked as they are read, or from a masked stream.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use tch::Tensor;

use super::batches::{BatchArgs, Feed, Item, Micro, Rows, Step};
use super::evaluate;
use super::fit::{Evaluation, Task};
use crate::flags::{fault, usage};
use crate::model::{MaskedLm, cross_entropy};
use crate::native::Place;
use crate::nn::Ids;
use crate::shard::{MaskedBy, Masker, Masking, Segment, Segments, Shard, View, agree, segments};

/// Where masked sequences come from, epoch after epoch.
pub enum Epochs {
    /// Plain shards, masked here, to the same bits as `mask` would.
    Plain { shard: Shard, masking: Masking, seed: u64, masker: Option<Masker> },
    /// Masked segments; one epoch is held at a time.
    Masked {
        now: Shard,
        epoch: u64,
        next: Option<Segment>,
        rest: Box<dyn Iterator<Item = Result<Segment>>>,
    },
}

impl Epochs {
    /// Opens shards, plain or masked; `-` is standard input.
    pub fn open(paths: &[PathBuf], masking: &Masking, seed: u64) -> Result<Self> {
        let parts: Result<Vec<Segments>> = paths.iter().map(|path| segments(path)).collect();
        let mut rest: Box<dyn Iterator<Item = Result<Segment>>> =
            Box::new(parts?.into_iter().flatten());
        let first = rest.next().context("no shard given")??;
        let prob = first.masked_by().map_or(masking.prob, |by| by.masking.prob);
        ensure!(prob > 0.0, usage("--prob 0 masks nothing: there is nothing to train on"));
        if let Some(by) = first.masked_by() {
            ensure!(
                *masking == Masking::default() || *masking == by.masking,
                usage(
                    "--prob, --replace, --unit, --exact: the stream is masked already, otherwise"
                )
            );
            let (now, next) = gather(first, &mut rest)?;
            return Ok(Self::Masked { now, epoch: 0, next, rest });
        }
        let mut all = vec![first];
        for segment in rest {
            let segment = segment?;
            agree(&all[0], &segment)?;
            all.push(segment);
        }
        let shard = Shard::from_segments(all)?;
        Ok(Self::Plain { shard, masking: masking.clone(), seed, masker: None })
    }

    /// The shard of the current epoch.
    pub fn shard(&self) -> &Shard {
        match self {
            Self::Plain { shard, .. } => shard,
            Self::Masked { now, .. } => now,
        }
    }

    /// How the sequences are masked, for the log.
    pub fn masking(&self) -> Masking {
        match self {
            Self::Plain { masking, .. } => masking.clone(),
            Self::Masked { now, .. } => {
                now.segments()[0].masked_by().map(|by| by.masking.clone()).unwrap_or_default()
            }
        }
    }

    /// Steps of a run: `steps`, or so many epochs. A masked stream says itself how many epochs it has.
    pub fn total(&self, steps: Option<u64>, epochs: Option<u64>, per_epoch: u64) -> Result<u64> {
        let own = match self {
            Self::Plain { .. } => None,
            Self::Masked { now, .. } => now.segments()[0].masked_by().map(|by| by.epochs),
        };
        let refuse = |cause: String, cure| Err(usage(cause).hint(cure).into());
        match (steps, epochs, own) {
            (Some(steps), ..) => Ok(steps),
            (None, Some(epochs), Some(own)) if epochs != own => refuse(
                format!("--epochs {epochs}: the masked stream has {own}"),
                "give --epochs to mask, or use --steps",
            ),
            (None, _, Some(0)) => refuse("the masked stream has no end".into(), "give --steps"),
            (None, epochs, own) => steps_of(own.or(epochs).unwrap_or(1), per_epoch),
        }
    }
}

/// Steps of so many epochs.
pub fn steps_of(epochs: u64, per_epoch: u64) -> Result<u64> {
    let steps = epochs.checked_mul(per_epoch);
    steps.ok_or_else(|| usage(format!("--epochs {epochs}: more steps than can be counted")).into())
}

/// The segments of one epoch, and the first of the next.
fn gather(
    first: Segment,
    rest: &mut dyn Iterator<Item = Result<Segment>>,
) -> Result<(Shard, Option<Segment>)> {
    let epoch = first.masked_by().map(|by| by.epoch);
    let mut all = vec![first];
    for segment in rest {
        let segment = segment?;
        agree(&all[0], &segment)?;
        let next = segment.masked_by().map(|by| by.epoch);
        if next != epoch {
            ensure!(
                next == epoch.map(|epoch| epoch + 1),
                fault(
                    "masked streams of several epochs were joined",
                    "join the shards, then mask them"
                )
            );
            return Ok((Shard::from_segments(all)?, Some(segment)));
        }
        all.push(segment);
    }
    Ok((Shard::from_segments(all)?, None))
}

impl Rows for Epochs {
    fn count(&self) -> usize {
        self.shard().len()
    }

    fn enter(&mut self, wanted: u64) -> Result<()> {
        match self {
            Self::Plain { shard, masking, seed, masker } => {
                let masking = masking.clone();
                let by =
                    MaskedBy { masking, seed: *seed, epoch: wanted, epochs: 0, draw: 0, draws: 1 };
                *masker = Some(Masker::new(&by, shard.header())?);
            }
            Self::Masked { now, epoch, next, rest } => {
                while *epoch < wanted {
                    let Some(first) = next.take() else {
                        bail!("the masked stream ended after epoch {epoch}, before the last step");
                    };
                    let before = now.sizes();
                    (*now, *next) = gather(first, rest)?;
                    *epoch += 1;
                    ensure!(
                        now.sizes() == before,
                        "epoch {epoch} is of other texts than the first"
                    );
                }
            }
        }
        Ok(())
    }

    fn row(&self, i: usize) -> u64 {
        self.shard().view(i).row
    }

    fn item(&self, i: usize) -> Item {
        match self {
            Self::Plain { shard, masker: Some(masker), .. } => {
                let view = shard.view(i);
                let hidden = masker.mask(&view, i as u64);
                let ids = Ids { tokens: hidden.tokens, second: view.second };
                let targets = hidden.targets.into_iter().map(i64::from).collect();
                Item { ids, masked: hidden.masked, targets, ..Item::default() }
            }
            _ => masked_item(&self.shard().view(i)),
        }
    }
}

/// A sequence of a masked shard, as a training or evaluation example.
pub fn masked_item(view: &View) -> Item {
    Item {
        ids: Ids { tokens: view.tokens.iter().collect(), second: view.second },
        masked: view.masked().map(|at| at as u32).collect(),
        targets: view.targets.iter().map(i64::from).collect(),
        ..Item::default()
    }
}

/// Masked language modelling as a task to fit.
pub struct Mlm<'a> {
    pub model: &'a MaskedLm,
    pub feed: Feed<Epochs>,
    pub eval: Option<&'a Shard>,
    /// General text that is watched.
    pub guard: Option<&'a Shard>,
    place: Place,
}

impl<'a> Mlm<'a> {
    pub fn new(
        model: &'a MaskedLm,
        rows: Epochs,
        args: &BatchArgs,
        (eval, guard): (Option<&'a Shard>, Option<&'a Shard>),
        (seed, place): (u64, Place),
    ) -> Result<Self> {
        Ok(Self { model, feed: Feed::new(rows, args, seed, place)?, eval, guard, place })
    }
}

impl Task for Mlm<'_> {
    fn step(&mut self, step: u64) -> Result<Step> {
        self.feed.step(step)
    }

    fn loss(&self, micro: &Micro) -> Tensor {
        let logits = self.model.logits(&micro.batch, &micro.masked, true);
        cross_entropy(&logits, &micro.targets)
    }

    fn evaluate(&self) -> Result<Option<Evaluation>> {
        let Some(shard) = self.eval else { return Ok(None) };
        let scores = evaluate::masked(self.model, shard, self.place, &mut |_| {})?;
        Ok(Some(Evaluation { scores: scores.scores(), degenerate: None }))
    }

    fn guarded(&self) -> Result<Option<f64>> {
        let Some(shard) = self.guard else { return Ok(None) };
        let scores = evaluate::masked(self.model, shard, self.place, &mut |_| {});
        Ok(Some(scores.context("--guard")?.nats()))
    }
}
