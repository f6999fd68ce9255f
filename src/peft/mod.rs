//! Methods of fine-tuning: one file each, answers to what a layer asks its `Scope` while it is built.

mod bitfit;
mod bottleneck;
mod dora;
mod full;
mod head;
mod ia3;
mod lora;
mod targets;
mod top;

use anyhow::{Error, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

pub use bitfit::BitFit;
pub use bottleneck::{Bottleneck, BottleneckConfig};
pub use full::Full;
pub use head::HeadOnly;
pub use ia3::Ia3;
pub use lora::{Lora, LoraConfig};
pub use top::TopLayers;

use crate::flags::{fault, usage};
use crate::nn::{Parameters, Peft};
use targets::Patterns;

/// A plan, and how what it trains is saved.
pub trait Method: Peft {
    /// Where its weights lie beside an untouched base: what the config of such an adapter says of it.
    fn about(&self, _parameters: &Parameters) -> Option<About> {
        None
    }

    /// What such an adapter holds, with the head, under peft's names without their prefix.
    fn tensors(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        trained(parameters).collect()
    }
}

/// The method's keys in the config of an adapter, by whose files it is.
#[derive(Debug)]
pub enum About {
    /// peft's `adapter_config.json`.
    Peft(Map<String, Value>),
    /// `config` in AdapterHub's `adapter_config.json`.
    AdapterHub(Map<String, Value>),
}

impl About {
    fn peft(keys: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self::Peft(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// Everything that trains, by name.
fn trained(parameters: &Parameters) -> impl Iterator<Item = (String, Tensor)> {
    parameters.trained().map(|p| (p.name.clone(), p.tensor.shallow_clone()))
}

/// The methods there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Every weight trains
    Full,
    /// The encoder stays as it is; only the new head trains
    Head,
    /// The top layers of the encoder train (--top), and the head
    Top,
    /// Biases train, and the head (Ben Zaken et al. 2022)
    Bitfit,
    /// Low-rank updates beside frozen linear layers (Hu et al. 2021); the head trains too, as in all that follow
    Lora,
    /// LoRA scaled by the root of the rank (Kalajdzievski 2023)
    Rslora,
    /// LoRA on the direction of weights, with their length apart (Liu et al. 2024)
    Dora,
    /// Scales of keys, values and the inside of the feed-forward network (Liu et al. 2022)
    Ia3,
    /// A bottleneck beside residual connections (Houlsby et al. 2019), in AdapterHub's files
    Adapter,
}

/// The method and its settings, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct MethodArgs {
    /// What trains
    #[arg(long, value_enum, default_value_t = Choice::Full)]
    pub method: Choice,

    #[command(flatten)]
    pub lora: LoraConfig,

    #[command(flatten)]
    pub bottleneck: BottleneckConfig,

    /// Top: how many layers train
    #[arg(long, default_value_t = 1, value_name = "LAYERS")]
    pub top: usize,
}

impl MethodArgs {
    /// The plan for an encoder of so many layers. Fails on settings no method can have.
    pub fn plan(&self, layers: usize) -> Result<Box<dyn Method>> {
        let lora = || Lora::new(&self.lora);
        Ok(match self.method {
            Choice::Full => Box::new(Full),
            Choice::Head => Box::new(HeadOnly),
            Choice::Top => {
                let first = layers.checked_sub(self.top);
                let too_many = || usage(format!("--top {}: it has {layers} layers", self.top));
                Box::new(TopLayers { first: first.ok_or_else(too_many)? })
            }
            Choice::Bitfit => Box::new(BitFit),
            Choice::Lora => Box::new(lora()?),
            Choice::Rslora => Box::new(lora()?.by_root()),
            Choice::Dora => Box::new(lora()?.decomposed()),
            Choice::Ia3 => Box::new(Ia3::new(&self.lora.targets)),
            Choice::Adapter => Box::new(Bottleneck::new(&self.bottleneck, self.lora.dropout)),
        })
    }

    /// Fails if the method added nothing to the model it was to change.
    pub fn check(&self, parameters: &Parameters) -> Result<()> {
        let added = parameters.iter().any(|parameter| parameter.added);
        let targets = self.lora.targets.join(",");
        let cause = || usage(format!("--targets {targets}: the model has no such linear layer"));
        let adds =
            !matches!(self.method, Choice::Full | Choice::Head | Choice::Top | Choice::Bitfit);
        ensure!(added || !adds, cause());
        Ok(())
    }
}

/// The method of an `adapter_config.json`.
pub fn from_config(config: &Value) -> Result<Box<dyn Method>> {
    Ok(match config["peft_type"].as_str() {
        Some("LORA") => Box::new(Lora::from_config(config)?),
        Some("IA3") => Box::new(Ia3::from_config(config)?),
        _ => return Err(unread("peft_type", &config["peft_type"])),
    })
}

/// The method of `config` in AdapterHub's `adapter_config.json`.
pub fn from_adapterhub(config: &Value) -> Result<Box<dyn Method>> {
    let architecture = &config["architecture"];
    let cause = || format!("`architecture` {architecture} is not read");
    ensure!(architecture.is_null(), fault(cause(), "of AdapterHub's, bottleneck adapters are"));
    Ok(Box::new(Bottleneck::from_config(config)?))
}

fn unread(key: &str, value: &Value) -> Error {
    let cure = "where the library that wrote it can merge it into its base, do that there and save the whole";
    fault(format!("`{key}` {value} is not read"), cure)
}

/// Fails if one of these keys of a config asks for something.
fn off(config: &Value, keys: &[&str]) -> Result<()> {
    let asks = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        _ => true,
    };
    match keys.iter().find(|key| asks(&config[**key])) {
        None => Ok(()),
        Some(key) => Err(unread(key, &config[*key])),
    }
}

/// `REGEX=NUMBER` flags.
fn pairs(flag: &str, texts: &[String]) -> Result<Patterns> {
    let pair = |text: &'_ String| -> Result<(String, f64)> {
        let (key, number) = text.rsplit_once('=').ok_or_else(|| anyhow!("no `=`"))?;
        let number: f64 = number.parse()?;
        ensure!(number > 0.0 && !key.is_empty(), "a pattern and a number above 0 are wanted");
        Ok((key.to_owned(), number))
    };
    let all: Result<Vec<_>> = texts.iter().map(pair).collect();
    let patterns = all.and_then(|all| Patterns::new(all.iter().map(|(key, n)| (&key[..], *n))));
    patterns.map_err(|error| usage(format!("{flag} {}: {error:#}", texts.join(","))).into())
}
