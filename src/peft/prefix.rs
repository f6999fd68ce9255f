//! Prefix tuning (Li and Liang 2021, section 4): every token of every layer also attends to keys and values that train.
//! In the reparametrised form (section 4.3) a network of two layers computes them while training, and what it gives is
//! what is saved. Places, positions and files as in peft.

use std::cell::OnceCell;
use std::rc::Rc;

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Tensor, no_grad};

use super::{About, Method, no_more, prompt};
use crate::nn::{Affine, Init, Parameters, Peft, Prefix, Scope, Table};

/// Settings of prefix and prompt tuning.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub struct PrefixConfig {
    /// Prefix, prompt: how many virtual tokens
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = prompt::count)]
    pub virtual_tokens: i64,

    /// Prefix: hidden size of the network that computes it in training (Li and Liang 2021, section 4.3)
    /// [default: no such network]
    #[arg(long, value_name = "SIZE", value_parser = prompt::count)]
    pub prefix_projection: Option<i64>,
}

/// Name of the parameter, as in peft's file.
pub const EMBEDDINGS: &str = "prompt_embeddings";

/// Keys of AdapterHub's config that are read, and behind them those that change nothing of what is computed.
const HUB_KEYS: [&str; 11] = [
    "architecture",
    "encoder_prefix",
    "flat",
    "prefix_length",
    "bottleneck_size",
    "cross_prefix",
    "dropout",
    "init_weights",
    "init_weights_seed",
    "non_linearity",
    "shared_gating",
];

/// The plan: the encoder is frozen, and each of its layers gets a prefix.
#[derive(Debug)]
pub struct PrefixTuning {
    config: PrefixConfig,
    layers: i64,
    /// What the prefixes of all layers are taken from, once a layer asked.
    source: OnceCell<Rc<Source>>,
}

/// Keys and values of all layers.
#[derive(Debug)]
enum Source {
    /// `[prefix, layers * 2 * hidden]`
    Flat(Tensor),
    /// `[prefix, hidden]`, and the network's two layers.
    Projected { inputs: Tensor, inner: Affine, outer: Affine },
}

impl PrefixTuning {
    pub fn new(config: &PrefixConfig, layers: usize) -> Self {
        Self { config: config.clone(), layers: layers as i64, source: OnceCell::new() }
    }

    /// From the keys of an `adapter_config.json`. What such a file holds is flat, however it was trained.
    pub fn from_config(config: &Value) -> Result<Self> {
        no_more(
            config,
            &[&prompt::KEYS[..], &["encoder_hidden_size", "prefix_projection"]].concat(),
        )?;
        let virtual_tokens = prompt::of_config(config)?;
        let layers = config["num_layers"].as_i64().unwrap_or(0);
        let config = PrefixConfig { virtual_tokens, prefix_projection: None };
        Ok(Self { config, layers, source: OnceCell::new() })
    }

    /// From the keys of AdapterHub's `config`, for an encoder of so many layers.
    pub fn from_adapterhub(config: &Value, layers: usize) -> Result<Self> {
        no_more(config, &HUB_KEYS)?;
        let encoder = &config["encoder_prefix"];
        ensure!(*encoder != json!(false), super::unread("encoder_prefix", encoder));
        ensure!(config["flat"] == json!(true), super::unread("flat", &config["flat"]));
        let virtual_tokens = prompt::tokens_of(config, "prefix_length")?;
        Ok(Self::new(&PrefixConfig { virtual_tokens, prefix_projection: None }, layers))
    }

    fn source(&self, at: &Scope, hidden: i64) -> Rc<Source> {
        let begin = || {
            let (tokens, all) = (self.config.virtual_tokens, self.layers * 2 * hidden);
            let flat = |at: Scope| {
                Source::Flat(at.parameter(EMBEDDINGS, &[tokens, all], Init::Normal(0.02)))
            };
            let at = at.top().added();
            Rc::new(match self.config.prefix_projection {
                None => flat(at),
                Some(size) => {
                    Source::projected(&at.at("prompt_encoder"), tokens, (hidden, size, all))
                }
            })
        };
        self.source.get_or_init(begin).clone()
    }
}

impl Source {
    fn projected(at: &Scope, tokens: i64, (hidden, size, all): (i64, i64, i64)) -> Self {
        let layer = |name: &str, from: i64, to: i64| {
            let bound = Init::Uniform(1.0 / (from as f64).sqrt());
            let at = at.at(name);
            let weight = at.parameter("weight", &[to, from], bound);
            Affine::new(weight, at.parameter("bias", &[to], Init::Zeros))
        };
        Self::Projected {
            inputs: at.parameter("embedding.weight", &[tokens, hidden], Init::Normal(1.0)),
            inner: layer("transform.0", hidden, size),
            outer: layer("transform.2", size, all),
        }
    }

    /// Columns from `start` of all prefixes side by side.
    fn columns(&self, start: i64, count: i64) -> Tensor {
        match self {
            Self::Flat(all) => all.narrow(1, start, count),
            Self::Projected { inputs, inner, outer } => {
                let weight = outer.weight.narrow(0, start, count);
                let bias = outer.bias.narrow(0, start, count);
                inner.forward(inputs).tanh().linear(&weight, Some(&bias))
            }
        }
    }
}

impl Peft for PrefixTuning {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn prefix(&self, at: &Scope, hidden: i64) -> Option<Box<dyn Prefix>> {
        let layer: i64 = at.path().split('.').find_map(|part| part.parse().ok())?;
        if layer >= self.layers {
            at.fault(format!("{}: the prefix is of {} layers", at.path(), self.layers));
            return None;
        }
        Some(Box::new(OfLayer { source: self.source(at, hidden), layer, hidden }))
    }

    /// peft's positions count the prefix, AdapterHub's do not.
    fn table(&self, at: &Scope, _: &Tensor) -> Option<Box<dyn Table>> {
        let moved = || Box::new(Moved(self.config.virtual_tokens)) as Box<dyn Table>;
        (at.path().ends_with("position_embeddings") && !is_adapterhubs(at.path())).then(moved)
    }
}

impl Method for PrefixTuning {
    fn merges(&self) -> bool {
        false
    }

    fn virtual_tokens(&self) -> i64 {
        self.config.virtual_tokens
    }

    fn about(&self, parameters: &Parameters) -> Option<About> {
        if parameters.iter().any(|p| is_adapterhubs(&p.name)) {
            return Some(About::adapterhub([
                ("architecture", json!("prefix_tuning")),
                ("dropout", json!(0.0)),
                ("flat", json!(true)),
                ("leave_out", json!([])),
                ("prefix_length", json!(self.config.virtual_tokens)),
                ("use_gating", json!(false)),
            ]));
        }
        Some(About::peft([
            ("peft_type", json!("PREFIX_TUNING")),
            ("num_virtual_tokens", json!(self.config.virtual_tokens)),
            ("num_transformer_submodules", json!(1)),
            // What is saved is flat.
            ("prefix_projection", json!(false)),
        ]))
    }

    fn tensors(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        let own = super::trained(parameters).filter(|(name, _)| !name.starts_with("prompt_"));
        let whole = self.source.get().map(|source| no_grad(|| source.whole()));
        whole.map(|whole| (EMBEDDINGS.to_owned(), whole)).into_iter().chain(own).collect()
    }
}

/// Whose files and positions a prefix has is decided by the model: peft needs one that takes keys and values of earlier
/// tokens, which transformers' DistilBERT does not.
fn is_adapterhubs(name: &str) -> bool {
    name.starts_with("distilbert.")
}

impl Source {
    fn whole(&self) -> Tensor {
        match self {
            Self::Flat(all) => all.shallow_clone(),
            Self::Projected { outer, .. } => self.columns(0, outer.bias.numel() as i64),
        }
    }
}

/// The prefix of one layer.
#[derive(Debug)]
struct OfLayer {
    source: Rc<Source>,
    layer: i64,
    hidden: i64,
}

impl Prefix for OfLayer {
    fn forward(&self) -> [Tensor; 2] {
        let start = self.layer * 2 * self.hidden;
        let both = self.source.columns(start, 2 * self.hidden);
        [both.narrow(1, 0, self.hidden), both.narrow(1, self.hidden, self.hidden)]
    }
}

/// Embeddings of positions behind so many others.
#[derive(Debug)]
struct Moved(i64);

impl Table for Moved {
    fn forward(&self, ids: &Tensor, own: &Tensor) -> Tensor {
        Tensor::embedding(own, &(ids + self.0), -1, false, false)
    }
}
