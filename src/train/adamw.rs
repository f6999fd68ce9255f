//! AdamW (Loshchilov and Hutter 2019, algorithm 2), step for step as `torch.optim.AdamW`, with moments that can
//! be saved: tch's optimizer hides them.

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use tch::{Kind, Tensor, no_grad};

use crate::flags::fault;
use crate::nn::Parameters;

/// Settings of the optimizer, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct AdamWArgs {
    /// Decay of weights; biases and LayerNorms are spared
    #[arg(long, default_value_t = 0.01, value_parser = crate::flags::not_negative)]
    pub weight_decay: f64,

    /// Decay of the first moment
    #[arg(long, default_value_t = 0.9, value_parser = crate::flags::below_one)]
    pub beta1: f64,

    /// Decay of the second moment
    #[arg(long, default_value_t = 0.999, value_parser = crate::flags::below_one)]
    pub beta2: f64,

    /// Added to the root of the second moment
    #[arg(long, default_value = "1e-8", value_parser = crate::flags::not_negative)]
    pub epsilon: f64,

    /// Longest gradient; 0 never clips
    #[arg(long, default_value_t = 1.0, value_parser = crate::flags::not_negative)]
    pub clip: f64,
}

impl Default for AdamWArgs {
    fn default() -> Self {
        Self { weight_decay: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip: 1.0 }
    }
}

/// One trained parameter with its moments.
#[derive(Debug)]
struct Slot {
    name: String,
    tensor: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    decay: f64,
}

/// The optimizer over everything that trains.
#[derive(Debug)]
pub struct AdamW {
    slots: Vec<Slot>,
    args: AdamWArgs,
    steps: i32,
}

impl AdamW {
    pub fn new(parameters: &Parameters, args: &AdamWArgs) -> Self {
        let slots = parameters.trained().map(|parameter| Slot {
            name: parameter.name.clone(),
            tensor: parameter.tensor.shallow_clone(),
            exp_avg: parameter.tensor.zeros_like().set_requires_grad(false),
            exp_avg_sq: parameter.tensor.zeros_like().set_requires_grad(false),
            // Biases and LayerNorms are what has one dimension: the grouping of transformers' Trainer.
            decay: if parameter.tensor.dim() > 1 { args.weight_decay } else { 0.0 },
        });
        Self { slots: slots.collect(), args: args.clone(), steps: 0 }
    }

    /// One step at `lr` with the gradients there are; then they are cleared. Gives the gradient's norm before
    /// clipping, on the device: reading it would wait for it.
    pub fn step(&mut self, lr: f64) -> Tensor {
        self.steps += 1;
        let grads: Vec<Tensor> = self.slots.iter().map(|slot| slot.tensor.grad()).collect();
        let norm = norm(&grads);
        no_grad(|| {
            let scale = (self.args.clip > 0.0)
                .then(|| ((&norm + 1e-6).reciprocal() * self.args.clip).clamp_max(1.0));
            for (slot, mut grad) in self.slots.iter_mut().zip(grads) {
                if grad.defined() {
                    if let Some(scale) = &scale {
                        let _ = grad.g_mul_(scale);
                    }
                    slot.update(&grad, lr, self.steps, &self.args);
                }
            }
        });
        self.clear();
        norm
    }

    fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.tensor.zero_grad());
    }

    /// Everything a resumed run needs, by name.
    pub fn state(&self) -> Vec<(String, &Tensor)> {
        self.slots
            .iter()
            .flat_map(|Slot { name, tensor, exp_avg, exp_avg_sq, .. }| {
                [
                    (format!("parameter.{name}"), tensor),
                    (format!("exp_avg.{name}"), exp_avg),
                    (format!("exp_avg_sq.{name}"), exp_avg_sq),
                ]
            })
            .collect()
    }

    /// Counts a step that had no gradient.
    pub fn skip(&mut self) {
        self.steps += 1;
    }

    /// Fails if a weight is no longer a number.
    pub fn check(&self) -> Result<()> {
        let broken = |slot: &&Slot| !slot.tensor.isfinite().all().int64_value(&[]).eq(&1);
        match self.slots.iter().find(broken) {
            None => Ok(()),
            Some(slot) => {
                let cure = "a lower --lr or more --warmup may help";
                Err(fault(format!("{} is not a number", slot.name), cure))
            }
        }
    }

    /// What trains, by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.slots.iter().map(|slot| (&slot.name, &slot.tensor))
    }

    /// Overwrites parameters; moments stay. Fails on a name that does not train.
    pub fn set_parameters<'a>(
        &mut self,
        values: impl Iterator<Item = (&'a str, &'a Tensor)>,
    ) -> Result<()> {
        for (name, value) in values {
            let slot = self.slots.iter_mut().find(|slot| slot.name == name);
            let slot = slot.with_context(|| format!("{name} does not train"))?;
            no_grad(|| slot.tensor.copy_(value));
        }
        Ok(())
    }

    /// Sets parameters and moments from a saved state after `steps` steps.
    pub fn restore(&mut self, steps: u64, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.steps = i32::try_from(steps)?;
        for slot in &mut self.slots {
            let name = &slot.name;
            for (kind, to) in [
                ("parameter", &mut slot.tensor),
                ("exp_avg", &mut slot.exp_avg),
                ("exp_avg_sq", &mut slot.exp_avg_sq),
            ] {
                let from = state.get(&format!("{kind}.{name}"));
                let from = from.with_context(|| format!("the saved state lacks {kind}.{name}"))?;
                no_grad(|| to.copy_(from));
            }
        }
        Ok(())
    }
}

impl Slot {
    fn update(&mut self, grad: &Tensor, lr: f64, steps: i32, args: &AdamWArgs) {
        let AdamWArgs { beta1, beta2, epsilon, .. } = *args;
        let _ = self.tensor.g_mul_scalar_(1.0 - lr * self.decay);
        let _ = self.exp_avg.lerp_(grad, 1.0 - beta1);
        let _ = self.exp_avg_sq.g_mul_scalar_(beta2).addcmul_(grad, &(grad * (1.0 - beta2)));
        let root = self.exp_avg_sq.sqrt() / (1.0 - beta2.powi(steps)).sqrt() + epsilon;
        let size = -lr / (1.0 - beta1.powi(steps));
        let _ = self.tensor.addcdiv_(&(&self.exp_avg * size), &root);
    }
}

/// Euclidean norm of all gradients together, a scalar tensor.
fn norm(grads: &[Tensor]) -> Tensor {
    let norms: Vec<Tensor> = grads.iter().filter(|g| g.defined()).map(Tensor::norm).collect();
    if norms.is_empty() {
        Tensor::zeros([], (Kind::Float, tch::Device::Cpu))
    } else {
        Tensor::stack(&norms, 0).norm()
    }
}
