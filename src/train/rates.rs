//! Learning rates of parts of a model: each parameter's as a share of the run's.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::flags::{not_negative, share, usage};
use crate::nn::{Parameter, Parameters};

/// Learning rates of the head and of lower layers, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct RateArgs {
    /// Peak learning rate of the head, with BERT's pooler [default: --lr]
    #[arg(long, value_name = "LR", value_parser = not_negative)]
    pub head_lr: Option<f64>,

    /// The learning rate of a layer, as a share of the one above it; embeddings lie below the first
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub layer_decay: f64,
}

impl Default for RateArgs {
    fn default() -> Self {
        Self { head_lr: None, layer_decay: 1.0 }
    }
}

/// The layer a parameter lies in, counted from 0 at the bottom.
fn layer(name: &str) -> Option<i32> {
    // A number elsewhere is no layer's: a network that computes a prefix has some.
    name.split_once(".layer.")?.1.split('.').next()?.parse().ok()
}

impl RateArgs {
    /// Fails where the head has a rate that is no share of the run's.
    pub fn check(&self, lr: f64) -> Result<()> {
        let fine = lr > 0.0 || self.head_lr.is_none();
        ensure!(fine, usage("--head-lr: wants --lr above 0; --method head trains the head alone"));
        Ok(())
    }

    /// What to multiply the rate of a run that peaks at `lr` by, for each parameter. What a method adds goes with
    /// its layer, or with the top one where it is in none.
    pub fn shares(&self, parameters: &Parameters, lr: f64) -> impl Fn(&Parameter) -> f64 {
        let top = parameters.iter().filter_map(|p| layer(&p.name)).max().map_or(0, |top| top + 1);
        let (decay, head) = (self.layer_decay, self.head_lr.map_or(1.0, |head| head / lr));
        move |parameter| match layer(&parameter.name) {
            Some(layer) => decay.powi(top - 1 - layer),
            None if parameter.name.contains("embeddings.") => decay.powi(top),
            None if parameter.added => 1.0,
            None => head,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::nn::{Everything, Init, Scope};
    use tch::{Device, Tensor};

    #[test]
    fn lower_layers_learn_more_slowly() {
        let names = [
            ("bert.embeddings.word_embeddings", 0.25),
            ("bert.encoder.layer.0.output.dense", 0.5),
            ("bert.encoder.layer.1.output.dense", 1.0),
            ("bert.pooler.dense", 10.0),
            ("classifier", 10.0),
        ];
        let places = names.map(|(name, _)| (name, "weight", false));
        let more = [
            ("bert.encoder.layer.0.query", "lora_A", true),
            ("prompt_encoder.transform.2", "weight", true),
        ];
        let places: Vec<_> = places.into_iter().chain(more).collect();
        let given = places.iter().map(|(at, name, _)| (format!("{at}.{name}"), Tensor::from(0f32)));
        let store = RefCell::new(Parameters::new(Device::Cpu, given.collect(), 0));
        let root = Scope::root(&store, &Everything);
        for (at, name, added) in places {
            let at = if added { root.at(at).added() } else { root.at(at) };
            let _ = at.parameter(name, &[], Init::Zeros);
        }
        let store = store.into_inner();
        let args = RateArgs { head_lr: Some(0.01), layer_decay: 0.5 };
        let shares: Vec<f64> = store.iter().map(args.shares(&store, 0.001)).collect();
        assert_eq!(shares, [0.25, 0.5, 1.0, 10.0, 10.0, 0.5, 1.0]);
    }
}
