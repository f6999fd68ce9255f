//! (IA)³ (Liu et al. 2022, section 3.3): keys, values and what lies inside the feed-forward network are scaled, each
//! feature by a number that trains. Names as in peft.

use anyhow::Result;
use serde_json::{Value, json};
use tch::{Tensor, no_grad};

use super::targets::Targets;
use super::{About, Method, no_more};
use crate::nn::{Affine, Delta, Init, Parameters, Peft, Scope};

/// What peft scales in BERT and RoBERTa, and the same of DistilBERT. `output.dense` is also the end of attention's.
const TARGETS: [&str; 6] = ["key", "value", "output.dense", "k_lin", "v_lin", "lin2"];
/// Of these, the layers whose input is scaled.
const FEEDFORWARD: [&str; 2] = ["output.dense", "lin2"];

/// Keys of peft's config that are read, `layers_to_transform` from AdapterHub's; how it began changes nothing.
const KEYS: [&str; 5] = [
    "exclude_modules",
    "feedforward_modules",
    "layers_to_transform",
    "target_modules",
    "init_ia3_weights",
];

/// The plan: everything is frozen but the scales.
#[derive(Debug)]
pub struct Ia3 {
    targets: Targets,
    feedforward: Targets,
}

impl Ia3 {
    /// `words` as `--targets` has them; none is what the paper scales.
    pub fn new(words: &[String]) -> Self {
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let words = if words.is_empty() { strings(&TARGETS) } else { words.to_vec() };
        Self { targets: Targets::new(&words), feedforward: Targets::new(&strings(&FEEDFORWARD)) }
    }

    /// From the keys of an `adapter_config.json`.
    pub fn from_config(config: &Value) -> Result<Self> {
        no_more(config, &KEYS)?;
        let inner = json!({"target_modules": config["feedforward_modules"]});
        Ok(Self {
            targets: Targets::from_config(config)?,
            feedforward: Targets::from_config(&inner)?,
        })
    }
}

impl Peft for Ia3 {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn delta(&self, at: &Scope, own: &Affine) -> Option<Box<dyn Delta>> {
        let (fan_in, fan_out) = own.fans();
        let scale = |shape: [i64; 2]| at.added().parameter("ia3_l", &shape, Init::Ones);
        match (self.targets.has(at.path()), self.feedforward.has(at.path())) {
            (false, _) => None,
            (true, true) => Some(Box::new(Scale::Input(scale([1, fan_in])))),
            (true, false) => Some(Box::new(Scale::Output(scale([fan_out, 1])))),
        }
    }
}

impl Method for Ia3 {
    fn about(&self, parameters: &Parameters) -> Option<About> {
        let of = |end: &str| -> Vec<&str> {
            parameters.iter().filter_map(|p| p.name.strip_suffix(end)).collect()
        };
        let (meant, all) = (of(".ia3_l"), of(".weight"));
        let targets = self.targets.to_config(&meant, &all);
        // Some of the targets, which peft insists on.
        let is_inner = |name: &&Value| name.as_str().is_some_and(|name| self.feedforward.has(name));
        let inner: Value =
            targets.as_array().into_iter().flatten().filter(is_inner).cloned().collect();
        let keys = [
            ("peft_type", json!("IA3")),
            ("target_modules", targets),
            ("feedforward_modules", inner),
            ("exclude_modules", Value::Null),
            ("fan_in_fan_out", json!(false)),
            ("init_ia3_weights", json!(true)),
        ];
        Some(About::peft(keys))
    }
}

/// The scales of one layer, of what goes in `[1, in]` or what comes out `[out, 1]`.
#[derive(Debug)]
enum Scale {
    Input(Tensor),
    Output(Tensor),
}

impl Delta for Scale {
    fn forward(&self, xs: &Tensor, own: &Affine, _train: bool) -> Tensor {
        match self {
            Self::Input(scale) => own.forward(&(xs * scale).to_kind(xs.kind())),
            Self::Output(scale) => own.forward(xs) * scale.view(-1),
        }
    }

    fn merged(&self, own: &Affine) -> Affine {
        no_grad(|| match self {
            Self::Input(scale) => Affine::new(&own.weight * scale, own.bias.shallow_clone()),
            Self::Output(scale) => Affine::new(&own.weight * scale, &own.bias * scale.view(-1)),
        })
    }
}
