//! Bottleneck adapters: down to a few features, a non-linearity, and up again, beside the residual connection.
//!
//! Sequential after the feed-forward network (Pfeiffer et al. 2021, "AdapterFusion", section 3.2), after both sublayers
//! (Houlsby et al. 2019, section 2.1), or parallel to the feed-forward network with a scale (He et al. 2022, "Towards a
//! Unified View", section 4). Where what is read and added lies is as in AdapterHub's `adapters`.

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::{About, Method, is, layers, no_more, number, unread};
use crate::nn::{Activation, Branch, Dropout, Init, LayerNorm, Linear, Parameters, Peft, Scope};

/// Settings of a bottleneck adapter.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub struct BottleneckConfig {
    /// Adapter: where it lies
    #[arg(long, value_enum, default_value_t = AdapterKind::Sequential)]
    pub adapter_kind: AdapterKind,

    /// Adapter: hidden size by features of the bottleneck [default: 16, parallel 2]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub reduction: Option<f64>,

    /// Adapter: what is done in the bottleneck [default: relu, double silu]
    #[arg(long, value_enum)]
    pub non_linearity: Option<Activation>,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| FACTORS.contains(factor));
    factor.ok_or_else(|| "a number of at least 0.01 is wanted".to_owned())
}

/// Below, a bottleneck is wider than any layer.
const FACTORS: std::ops::Range<f64> = 0.01..f64::INFINITY;

/// Where adapters lie in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// After the feed-forward network (Pfeiffer et al. 2021)
    Sequential,
    /// After attention and after the feed-forward network (Houlsby et al. 2019)
    Double,
    /// Beside the feed-forward network, scaled by a number that trains (He et al. 2022)
    Parallel,
}

/// What an adapter reads of a sublayer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// Its output and its input, added and normalised.
    Normed,
    Output,
    Input,
}

/// The plan: the encoder is frozen, sublayers get an adapter.
#[derive(Debug)]
pub struct Bottleneck {
    after_attention: bool,
    after_output: bool,
    reads: Reads,
    reduction: f64,
    activation: Activation,
    /// None trains.
    scaling: Option<f64>,
    dropout: f64,
    /// Layers without one.
    left_out: Vec<u64>,
}

/// Keys of AdapterHub's config that are read, and behind them those that change nothing where what they belong to is not
/// asked for.
const KEYS: [&str; 26] = [
    "architecture",
    "dropout",
    "is_parallel",
    "leave_out",
    "mh_adapter",
    "non_linearity",
    "original_ln_after",
    "original_ln_before",
    "output_adapter",
    "reduction_factor",
    "residual_before_ln",
    "scaling",
    "init_weights",
    "init_weights_seed",
    "inv_adapter_reduction_factor",
    "factorized_phm_W",
    "factorized_phm_rule",
    "hypercomplex_nonlinearity",
    "learn_phm",
    "phm_bias",
    "phm_c_init",
    "phm_dim",
    "phm_init_range",
    "phm_rank",
    "shared_phm_rule",
    "shared_W_phm",
];

/// How the places of LayerNorms end that close attention, and those that close the feed-forward network.
const AFTER_ATTENTION: [&str; 2] = [".attention.output.LayerNorm", ".sa_layer_norm"];
const AFTER_OUTPUT: [&str; 2] = [".output.LayerNorm", ".output_layer_norm"];

impl Bottleneck {
    pub fn new(config: &BottleneckConfig, dropout: f64) -> Self {
        let kind = config.adapter_kind;
        let (reads, reduction, activation) = match kind {
            AdapterKind::Sequential => (Reads::Normed, 16.0, Activation::Relu),
            AdapterKind::Double => (Reads::Output, 16.0, Activation::Silu),
            AdapterKind::Parallel => (Reads::Input, 2.0, Activation::Relu),
        };
        Self {
            after_attention: kind == AdapterKind::Double,
            after_output: true,
            reads,
            reduction: config.reduction.unwrap_or(reduction),
            activation: config.non_linearity.unwrap_or(activation),
            scaling: (kind != AdapterKind::Parallel).then_some(1.0),
            dropout,
            left_out: Vec::new(),
        }
    }

    /// From the keys of AdapterHub's `config`.
    pub fn from_config(config: &Value) -> Result<Self> {
        no_more(config, &KEYS)?;
        for key in ["original_ln_after", "residual_before_ln"] {
            ensure!([json!(true), Value::Null].contains(&config[key]), unread(key, &config[key]));
        }
        let scaling = &config["scaling"];
        let known = scaling.is_number() || scaling.is_null() || scaling == "learned";
        ensure!(known, unread("scaling", scaling));
        let activation = || unread("non_linearity", &config["non_linearity"]);
        Ok(Self {
            after_attention: is(config, "mh_adapter")?,
            after_output: is(config, "output_adapter")?,
            reads: match (is(config, "is_parallel")?, is(config, "original_ln_before")?) {
                (true, _) => Reads::Input,
                (_, true) => Reads::Normed,
                _ => Reads::Output,
            },
            reduction: config["reduction_factor"]
                .as_f64()
                .filter(|factor| FACTORS.contains(factor))
                .context("`reduction_factor` must be one number of at least 0.01")?,
            activation: Activation::deserialize(&config["non_linearity"])
                .map_err(|_| activation())?,
            scaling: if scaling.is_null() { Some(1.0) } else { scaling.as_f64() },
            dropout: number(config, "dropout")?.unwrap_or(0.0),
            left_out: layers(config, "leave_out")?,
        })
    }

    fn is_at(&self, path: &str) -> bool {
        let ends = |ends: [&str; 2]| ends.iter().any(|end| path.ends_with(end));
        let attention = ends(AFTER_ATTENTION);
        let output = ends(AFTER_OUTPUT) && !attention;
        let layer = path.split('.').find_map(|part| part.parse().ok());
        let left_out = layer.is_some_and(|layer| self.left_out.contains(&layer));
        !left_out && (self.after_attention && attention || self.after_output && output)
    }
}

/// Features of the bottleneck: the floor of the quotient, which rounding must not lift, and as Python has it.
fn inner(hidden: i64, reduction: f64) -> i64 {
    let hidden = hidden as f64;
    (((hidden - hidden % reduction) / reduction).round() as i64).max(1)
}

impl Peft for Bottleneck {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn branch(&self, at: &Scope, hidden: i64) -> Option<Box<dyn Branch>> {
        let inner = inner(hidden, self.reduction);
        let added = at.added();
        let learned = || added.parameter("scaling", &[1], Init::Ones);
        self.is_at(at.path()).then(|| {
            Box::new(Adapter {
                reads: self.reads,
                down: Linear::new(&added.at("adapter_down.0"), hidden, inner, 0.02),
                activation: self.activation,
                // Zero, so that it begins as nothing.
                up: Linear::new(&added.at("adapter_up"), inner, hidden, 0.0),
                scaling: self.scaling.map_or_else(learned, Tensor::from),
                dropout: Dropout(self.dropout),
            }) as Box<dyn Branch>
        })
    }
}

impl Method for Bottleneck {
    fn merges(&self) -> bool {
        false
    }

    fn about(&self, _: &Parameters) -> Option<About> {
        let normed = self.reads == Reads::Normed;
        let keys = json!({
            "adapter_residual_before_ln": false,
            "architecture": null,
            "cross_adapter": false,
            "dropout": self.dropout,
            "init_weights": "bert",
            "inv_adapter": null,
            "inv_adapter_reduction_factor": null,
            "is_parallel": self.reads == Reads::Input,
            "leave_out": self.left_out,
            "ln_after": false,
            "ln_before": false,
            "mh_adapter": self.after_attention,
            "non_linearity": self.activation,
            "original_ln_after": true,
            "original_ln_before": normed,
            "output_adapter": self.after_output,
            "phm_layer": false,
            "reduction_factor": self.reduction,
            "residual_before_ln": true,
            "scaling": self.scaling.map_or(json!("learned"), |scaling| json!(scaling)),
            "use_gating": false,
        });
        keys.as_object().cloned().map(About::AdapterHub)
    }
}

/// One adapter.
#[derive(Debug)]
struct Adapter {
    reads: Reads,
    down: Linear,
    activation: Activation,
    up: Linear,
    /// `[1]`
    scaling: Tensor,
    dropout: Dropout,
}

impl Branch for Adapter {
    fn forward(&self, ys: &Tensor, xs: &Tensor, norm: &LayerNorm, train: bool) -> Tensor {
        let read = match self.reads {
            Reads::Normed => norm.forward(&(ys + xs)),
            Reads::Output => ys.shallow_clone(),
            Reads::Input => xs.shallow_clone(),
        };
        let inner = self.activation.forward(&self.down.forward(&read, train));
        self.dropout.forward(self.up.forward(&inner, train) * &self.scaling, train)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(kind: AdapterKind) -> Vec<bool> {
        let config = BottleneckConfig { adapter_kind: kind, reduction: None, non_linearity: None };
        let plan = Bottleneck { left_out: vec![1], ..Bottleneck::new(&config, 0.0) };
        let layer = |i: u8, end: &str| plan.is_at(&format!("bert.encoder.layer.{i}.{end}"));
        let bert = [layer(0, "attention.output.LayerNorm"), layer(0, "output.LayerNorm")];
        let other = [layer(0, "sa_layer_norm"), layer(0, "output_layer_norm")];
        assert_eq!(bert, other);
        assert!(!layer(1, "output.LayerNorm") && !plan.is_at("bert.embeddings.LayerNorm"));
        bert.to_vec()
    }

    #[test]
    fn they_lie_where_their_papers_put_them() {
        assert_eq!(meant(AdapterKind::Sequential), [false, true]);
        assert_eq!(meant(AdapterKind::Double), [true, true]);
        assert_eq!(meant(AdapterKind::Parallel), [false, true]);
    }

    #[test]
    fn widths_are_those_of_python() {
        let widths = [12.8, 1.6, 3.2, 16.0, 1000.0].map(|factor| inner(768, factor));
        assert_eq!(widths, [59, 479, 239, 48, 1]);
    }

    #[test]
    fn configs_are_read_as_they_are_written() {
        for kind in [AdapterKind::Sequential, AdapterKind::Double, AdapterKind::Parallel] {
            let config = BottleneckConfig {
                adapter_kind: kind,
                reduction: Some(8.0),
                non_linearity: Some(Activation::GeluNew),
            };
            let plan = Bottleneck::new(&config, 0.1);
            let parameters = Parameters::new(tch::Device::Cpu, Default::default(), 0);
            let Some(About::AdapterHub(keys)) = plan.about(&parameters) else { panic!() };
            let again = Bottleneck::from_config(&Value::from(keys)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{plan:?}"));
        }
        let gated = json!({"use_gating": true});
        assert!(Bottleneck::from_config(&gated).is_err());
    }
}
