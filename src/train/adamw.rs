//! AdamW (Loshchilov and Hutter 2019, algorithm 2), step for step as `torch.optim.AdamW`, in one pass over
//! all that trains, with moments that can be saved: tch's optimizer hides them.

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use tch::{Tensor, no_grad};

use crate::flags::fault;
use crate::native::{self, Rates};
use crate::nn::{Parameter, Parameters, Turned};

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
    turned: Turned,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    decay: f64,
    /// What the rate of a step is multiplied by.
    share: f64,
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
        Self::with_shares(parameters, args, |_| 1.0)
    }

    /// With the rate of each parameter as a share of a step's.
    pub fn with_shares(
        parameters: &Parameters,
        args: &AdamWArgs,
        share: impl Fn(&Parameter) -> f64,
    ) -> Self {
        let slots = parameters.trained().map(|parameter| Slot {
            name: parameter.name.clone(),
            tensor: parameter.tensor.shallow_clone(),
            turned: parameter.turned.clone(),
            exp_avg: parameter.tensor.zeros_like().set_requires_grad(false),
            exp_avg_sq: parameter.tensor.zeros_like().set_requires_grad(false),
            // Biases and LayerNorms are what has one dimension: the grouping of transformers' Trainer.
            decay: if parameter.tensor.dim() > 1 { args.weight_decay } else { 0.0 },
            share: share(parameter),
        });
        Self { slots: slots.collect(), args: args.clone(), steps: 0 }
    }

    /// One step at `lr` with the gradients there are, of this loss; then they are cleared. Gives the gradient's norm before
    /// clipping, on the device: reading it would wait for it. Where it or the loss is not a number, nothing changes.
    pub fn step(&mut self, lr: f64, loss: Option<&Tensor>) -> Tensor {
        self.steps += 1;
        let AdamWArgs { beta1, beta2, epsilon, clip, .. } = self.args;
        let rates = Rates { beta1, beta2, epsilon, step: self.steps.into(), clip };
        let slots = self.slots.iter().map(|slot| native::Slot {
            parameter: &slot.tensor,
            exp_avg: &slot.exp_avg,
            exp_avg_sq: &slot.exp_avg_sq,
            copy: slot.turned.copy(),
            lr: lr * slot.share,
            decay: slot.decay,
        });
        native::adamw(slots, rates, loss)
    }

    /// Before the gradients of another part of a step: sums of parts are kept in f32.
    pub fn fold(&self) {
        let copies = self.slots.iter().filter_map(|slot| Some((&slot.tensor, slot.turned.copy()?)));
        copies.for_each(|(tensor, copy)| native::fold(tensor, copy));
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
            slot.turned.renew(&slot.tensor);
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
            slot.turned.renew(&slot.tensor);
        }
        Ok(())
    }
}
