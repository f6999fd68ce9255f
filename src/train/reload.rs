//! What was saved, held against what was trained: logits of a few texts, from the model in memory and from its files.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};

use super::classify::unlabelled;
use crate::checkpoint::{Checkpoint, Head, Loaded, class_config, mlm_config, untied_config};
use crate::model::{MaskedLm, SequenceClassifier, Sizes};
use crate::nn::{Batch, Everything, Ids, Peft};
use crate::shard::Shard;

/// Texts, and tokens of each, that are looked at.
const TEXTS: usize = 8;
const TOKENS: i64 = 4;
/// Logits may differ by so much, or this share of the largest. The same weights give the same bits; PiSSA's and OLoRA's
/// are saved converted, which was seen to differ by 2e-7.
pub const BOUND: f64 = 1e-5;
/// The same of weights that took an adapter in, and add up in another order: 1e-7 was seen.
pub const MERGED: f64 = 1e-4;

/// A few texts to hold two models against each other with.
#[derive(Debug)]
pub struct Probe {
    batch: Batch,
    /// Where a masked language model is asked `[masked]`.
    masked: Tensor,
    device: Device,
}

impl Probe {
    pub fn new(texts: &[Ids], device: Device) -> Self {
        let batch = Batch::new(texts, device);
        let starts = Vec::<i64>::try_from(&batch.starts).unwrap_or_default();
        let first = starts.iter().zip(&batch.lengths);
        let masked: Vec<i64> =
            first.flat_map(|(&start, &length)| start..start + length.min(TOKENS)).collect();
        Self { batch, masked: Tensor::from_slice(&masked).to_device(device), device }
    }

    /// Texts of any tokens a model of these sizes knows, where no others are at hand.
    pub fn drawn(sizes: &Sizes, device: Device) -> Self {
        let text = |i: usize| {
            let length = (1 << i).min(sizes.max_length.max(1)) as u32;
            let token =
                |t: u32| ((u64::from(t) + 1) * (i as u64 + 1) * 7919 % sizes.vocab as u64) as u32;
            Ids { tokens: (0..length).map(token).collect(), second: None }
        };
        Self::new(&(0..TEXTS).map(text).collect::<Vec<_>>(), device)
    }

    /// The first texts of a shard.
    pub fn of(shard: &Shard, device: Device) -> Self {
        let texts = (0..shard.len().min(TEXTS)).map(|i| unlabelled(&shard.view(i)).ids);
        Self::new(&texts.collect::<Vec<_>>(), device)
    }

    /// Fails unless the model in `dir`, opened as any program does, gives the same logits as `model`.
    pub fn reload<M: Headed>(&self, model: &M, dir: &Path, base: Option<&Path>) -> Result<f64> {
        let named = || format!("{}: what was saved", dir.display());
        let again =
            Checkpoint::open(dir, base).and_then(|saved| M::open(saved, &Everything, self.device));
        let again = again.with_context(|| format!("{} cannot be read again", named()))?;
        self.same(model, &again.model, BOUND).with_context(named)
    }

    /// Fails unless two models give the same logits within `bound`, or that share of the largest. Gives how far apart
    /// they are, as a share where the largest is above 1.
    pub fn same<M: Headed>(&self, one: &M, other: &M, bound: f64) -> Result<f64> {
        let (one, other) = no_grad(|| (one.answer(self), other.answer(self)));
        let (sizes, others) = (one.size(), other.size());
        ensure!(sizes == others, "gives logits of shape {others:?}, the model {sizes:?}");
        let most = |t: Tensor| t.abs().max().to_kind(Kind::Double).double_value(&[]);
        let largest = most(one.shallow_clone()).max(1.0);
        let difference = most(one - other) / largest;
        ensure!(
            difference <= bound,
            "gives other logits than the model: they differ by {difference:.1e}, {bound:.0e} is allowed"
        );
        Ok(difference)
    }
}

/// A model that says something of texts.
pub trait Headed: Sized {
    fn answer(&self, probe: &Probe) -> Tensor;

    /// The model of a checkpoint; one that is an adapter goes by its own plan, unless that was taken.
    fn open(checkpoint: Checkpoint, plan: &dyn Peft, device: Device) -> Result<Loaded<Self>>;

    /// What the config of a whole model says of it, where `checkpoint` is what it was built from.
    fn config(&self, checkpoint: &Checkpoint) -> Result<Value>;
}

impl Headed for SequenceClassifier {
    fn answer(&self, probe: &Probe) -> Tensor {
        self.logits(&probe.batch, false)
    }

    fn open(checkpoint: Checkpoint, plan: &dyn Peft, device: Device) -> Result<Loaded<Self>> {
        let classes = checkpoint.labels()?.len();
        checkpoint.classifier(classes, plan, Head::Given, device)
    }

    fn config(&self, checkpoint: &Checkpoint) -> Result<Value> {
        let classes = (&checkpoint.labels()?[..], checkpoint.problem()?);
        Ok(class_config(&checkpoint.config, &*checkpoint.architecture, classes))
    }
}

impl Headed for MaskedLm {
    fn answer(&self, probe: &Probe) -> Tensor {
        self.logits(&probe.batch, &probe.masked, false)
    }

    fn open(checkpoint: Checkpoint, plan: &dyn Peft, device: Device) -> Result<Loaded<Self>> {
        checkpoint.masked_lm(plan, Head::Given, device)
    }

    fn config(&self, checkpoint: &Checkpoint) -> Result<Value> {
        let config = mlm_config(&checkpoint.config, &*checkpoint.architecture);
        Ok(if self.is_tied() { config } else { untied_config(config) })
    }
}
