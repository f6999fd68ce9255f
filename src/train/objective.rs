//! What fine-tuning minimises: cross-entropy, its weights, smoothing and focus; and noise on the words.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Reduction, Tensor};

use super::batches::Micro;
use crate::flags::{below_one, not_negative, usage};
use crate::shard::{Labels, Problem};

/// The loss, as flags.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct ObjectiveArgs {
    /// Weights of the classes in the loss: `balanced`, or a JSON file of every name and its weight
    #[arg(long, value_name = "balanced|FILE")]
    pub class_weights: Option<String>,

    /// Share of each target that is spread evenly over the classes (Szegedy et al. 2016)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = below_one)]
    pub label_smoothing: f64,

    /// Focal loss: weigh texts by (1 - p)^GAMMA, p their class's probability (Lin et al. 2017)
    #[arg(long, value_name = "GAMMA", value_parser = not_negative, conflicts_with = "label_smoothing")]
    pub focal: Option<f64>,

    /// Noise on the word embeddings in training, up to ALPHA / sqrt(tokens of the text * hidden size) (NEFTune, Jain et al. 2023)
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, value_parser = not_negative)]
    pub neftune: f64,
}

/// The loss of a classifier.
#[derive(Debug)]
pub struct Objective {
    problem: Problem,
    /// The weight of each class, in the model's order; none weighs all alike.
    weights: Option<Vec<f64>>,
    /// The same on the device.
    tensor: Option<Tensor>,
    smoothing: f64,
    focal: Option<f64>,
    /// NEFTune's alpha.
    pub noise: f64,
}

impl ObjectiveArgs {
    /// `counts` are the sequences of each class to train on. Fails where a file of weights does not name the classes.
    pub fn open(
        &self,
        problem: Problem,
        (labels, counts): (&Labels, &[u64]),
        device: Device,
    ) -> Result<Objective> {
        let plain =
            self.class_weights.is_none() && self.label_smoothing == 0.0 && self.focal.is_none();
        ensure!(
            plain || problem == Problem::Classes,
            usage("--class-weights, --label-smoothing, --focal: are for texts of one class each")
        );
        let weights = match self.class_weights.as_deref() {
            None => None,
            Some("balanced") => Some(balanced(counts)),
            Some(file) => {
                Some(given(file, labels).with_context(|| format!("--class-weights: {file}"))?)
            }
        };
        Ok(Objective {
            problem,
            tensor: weights.as_deref().map(|weights| on(weights, device)),
            weights,
            smoothing: self.label_smoothing,
            focal: self.focal,
            noise: self.neftune,
        })
    }
}

fn on(weights: &[f64], device: Device) -> Tensor {
    Tensor::from_slice(weights).to_kind(Kind::Float).to_device(device)
}

/// As scikit-learn's: all rows over the classes that occur and the rows of each; 0 for one that does not occur.
fn balanced(counts: &[u64]) -> Vec<f64> {
    let (rows, classes) = (counts.iter().sum::<u64>(), counts.iter().filter(|&&n| n > 0).count());
    let weight = |n: u64| if n == 0 { 0.0 } else { rows as f64 / (classes as f64 * n as f64) };
    counts.iter().map(|&n| weight(n)).collect()
}

/// The weights in a file, in the order of `labels`.
fn given(file: &str, labels: &Labels) -> Result<Vec<f64>> {
    let weights: BTreeMap<String, f64> = serde_json::from_str(&fs::read_to_string(file)?)
        .context("not a JSON object of names and numbers")?;
    let known = || labels.names().join(", ");
    for (name, weight) in &weights {
        ensure!(labels.find(name).is_some(), "unknown label {name:?}; there are {}", known());
        ensure!(*weight >= 0.0, "the weight of {name:?} is below 0");
    }
    let weight =
        |name: &String| weights.get(name).with_context(|| format!("no weight for {name:?}"));
    let all: Vec<f64> =
        labels.names().iter().map(|name| weight(name).copied()).collect::<Result<_>>()?;
    ensure!(all.iter().any(|weight| *weight > 0.0), "every weight is 0");
    Ok(all)
}

impl Objective {
    /// The loss of logits `[rows, outputs]`, added up: to be divided by what the whole step counts for, as torch's mean
    /// does.
    pub fn sum(&self, logits: &Tensor, micro: &Micro) -> Tensor {
        let logits = logits.totype(Kind::Float);
        let none: Option<Tensor> = None;
        match self.problem {
            Problem::Classes => self.of_classes(&logits, &micro.targets),
            Problem::MultiLabel => logits.binary_cross_entropy_with_logits(
                &micro.numbers,
                none.as_ref(),
                none.as_ref(),
                Reduction::Sum,
            ),
            Problem::Regression => logits.mse_loss(&micro.numbers, Reduction::Sum),
        }
    }

    /// Cross-entropy in nats: logits `[rows, classes]`, classes `[rows]`.
    fn of_classes(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        let weights = self.tensor.as_ref();
        let Some(gamma) = self.focal else {
            return logits.cross_entropy_loss(
                targets,
                weights,
                Reduction::Sum,
                -100,
                self.smoothing,
            );
        };
        let logs = logits.log_softmax(-1, Kind::Float).gather(-1, &targets.unsqueeze(-1), false);
        let logs = logs.squeeze_dim(-1);
        // Where p is 1 in f32 the power of 0 would have no gradient.
        let focus =
            (-logs.expm1()).clamp_min(f64::from(f32::MIN_POSITIVE)).pow_tensor_scalar(gamma);
        let losses = -(focus * logs);
        match weights {
            Some(weights) => (losses * weights.index_select(0, targets)).sum(Kind::Float),
            None => losses.sum(Kind::Float),
        }
    }

    /// What a row of this class counts for.
    pub fn weight(&self, class: i64) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[class as usize])
    }

    /// The weights by name, if there are any: for the log.
    pub fn about(&self, labels: &Labels) -> Option<Value> {
        let weights = self.weights.as_ref()?;
        let named = labels.names().iter().cloned().zip(weights.iter().map(|weight| json!(weight)));
        Some(Value::Object(named.collect::<Map<_, _>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_as_scikit_learn() {
        assert_eq!(balanced(&[6, 2, 0, 4]), [12.0 / 18.0, 12.0 / 6.0, 0.0, 12.0 / 12.0]);
    }

    #[test]
    fn one_weight_and_no_focus_is_cross_entropy() {
        let logits = Tensor::from_slice2(&[[0.5f32, -1.0, 2.0], [3.0, 0.1, 0.2]]);
        let targets = Tensor::from_slice(&[2i64, 1]);
        let objective = |weights: Option<&[f64]>, focal| Objective {
            problem: Problem::Classes,
            weights: weights.map(<[f64]>::to_vec),
            tensor: weights.map(|weights| on(weights, Device::Cpu)),
            smoothing: 0.0,
            focal,
            noise: 0.0,
        };
        let sum = |objective: Objective| objective.of_classes(&logits, &targets).double_value(&[]);
        let plain = sum(objective(None, None));
        for same in [objective(Some(&[1.0; 3]), None), objective(Some(&[1.0; 3]), Some(0.0))] {
            assert!((sum(same) - plain).abs() < 1e-5);
        }
        assert!((sum(objective(Some(&[2.0; 3]), None)) - 2.0 * plain).abs() < 1e-5);
        assert!(sum(objective(None, Some(2.0))) < plain);
    }
}
