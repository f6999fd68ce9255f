//! Methods of fine-tuning: one file each, answers to what a layer asks its `Scope` while it is built.

mod bitfit;
mod bottleneck;
mod dora;
mod files;
mod full;
mod head;
mod ia3;
mod lora;
mod prefix;
mod prompt;
mod targets;
mod tokens;
mod top;

use anyhow::{Error, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

pub use bitfit::BitFit;
pub use bottleneck::{Bottleneck, BottleneckConfig};
pub use files::{Files, about_in};
pub use full::Full;
pub use head::HeadOnly;
pub use ia3::Ia3;
pub use lora::{Lora, LoraConfig};
pub use prefix::{EMBEDDINGS, PrefixConfig, PrefixTuning};
pub use prompt::PromptTuning;
pub use tokens::Tokens;
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

    /// Whether what it adds can become a part of the weights.
    fn merges(&self) -> bool {
        true
    }

    /// Positions that stand before every text and are in none.
    fn virtual_tokens(&self) -> i64 {
        0
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

    fn adapterhub(keys: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self::AdapterHub(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
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
    /// Keys and values that every token also attends to, in every layer (Li and Liang 2021)
    Prefix,
    /// Virtual tokens before every text (Lester et al. 2021)
    Prompt,
    /// Rows of the word embeddings (--tokens), for words added to a vocabulary
    Tokens,
}

/// The method and its settings, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct MethodArgs {
    /// What trains [default: full; of an adapter, what it added]
    #[arg(long, value_enum)]
    pub method: Option<Choice>,

    #[command(flatten)]
    pub lora: LoraConfig,

    #[command(flatten)]
    pub bottleneck: BottleneckConfig,

    #[command(flatten)]
    pub prefix: PrefixConfig,

    /// Tokens, LoRA, DoRA: ids of those whose rows train, as numbers and ranges like 30522-30541 [default: tokens those
    /// that prep --extend added to the model, LoRA none]
    #[arg(long, value_delimiter = ',', value_name = "IDS", value_parser = tokens::range)]
    pub tokens: Vec<(i64, i64)>,

    /// Whose files an adapter is written in [default: PEFT's; adapter: AdapterHub's]
    #[arg(long, value_enum, value_name = "LIBRARY")]
    pub adapter_files: Option<Files>,

    /// Top: how many layers train
    #[arg(long, default_value_t = 1, value_name = "LAYERS")]
    pub top: usize,
}

impl MethodArgs {
    fn choice(&self) -> Choice {
        self.method.unwrap_or(Choice::Full)
    }

    /// The plan for an encoder of so many layers; `added` are the ids of words added to its vocabulary. Fails on settings
    /// no method can have.
    pub fn plan(
        &self,
        layers: usize,
        added: impl Fn() -> Result<Vec<i64>>,
    ) -> Result<Box<dyn Method>> {
        let listed = || self.tokens.iter().flat_map(|&(first, last)| first..=last).collect();
        let beside = || (!self.tokens.is_empty()).then(|| Tokens::new(listed()));
        let lora = || Ok::<_, Error>(Lora::new(&self.lora)?.with(beside()));
        Ok(match self.choice() {
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
            Choice::Prefix => Box::new(PrefixTuning::new(&self.prefix, layers)),
            Choice::Prompt => Box::new(PromptTuning { tokens: self.prefix.virtual_tokens }),
            Choice::Tokens => Box::new(match beside() {
                Some(tokens) => tokens,
                None => Tokens::new(added()?),
            }),
        })
    }

    /// Fails if the method added nothing to the model it was to change, or what it added has no place in the files it is
    /// to lie in.
    pub fn check(&self, plan: &dyn Method, parameters: &Parameters) -> Result<()> {
        let added = parameters.iter().any(|parameter| parameter.added);
        let targets = self.lora.targets.join(",");
        let cause = || usage(format!("--targets {targets}: the model has no such linear layer"));
        let adds =
            !matches!(self.choice(), Choice::Full | Choice::Head | Choice::Top | Choice::Bitfit);
        ensure!(added || !adds, cause());
        let cause =
            || usage("nothing trains: every part of the model is given, and is to stay as it is");
        ensure!(parameters.trained().next().is_some(), cause());
        about_in(self.adapter_files, plan, parameters).map(drop)
    }
}

/// Keys of every `adapter_config.json`: those read elsewhere, and those that change nothing of what is computed.
const COMMON: [&str; 8] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
];

/// The method of an `adapter_config.json`.
pub fn from_config(config: &Value) -> Result<Box<dyn Method>> {
    Ok(match config["peft_type"].as_str() {
        Some("LORA") => Box::new(Lora::from_config(config)?),
        Some("IA3") => Box::new(Ia3::from_config(config)?),
        Some("PREFIX_TUNING") => Box::new(PrefixTuning::from_config(config)?),
        Some("PROMPT_TUNING") => Box::new(PromptTuning::from_config(config)?),
        Some("TRAINABLE_TOKENS") => Box::new(Tokens::from_config(config)?),
        _ => return Err(unread("peft_type", &config["peft_type"])),
    })
}

/// The method of `config` in AdapterHub's `adapter_config.json`, for an encoder of so many layers.
pub fn from_adapterhub(config: &Value, layers: usize) -> Result<Box<dyn Method>> {
    let architecture = &config["architecture"];
    if architecture == "prefix_tuning" {
        return Ok(Box::new(PrefixTuning::from_adapterhub(config, layers)?));
    }
    if architecture == "lora" {
        return from_config(&files::from_adapterhub(config, layers)?);
    }
    let cause = || format!("`architecture` {architecture} is not read");
    ensure!(
        architecture.is_null(),
        fault(cause(), "of AdapterHub's, bottleneck adapters, LoRA, IA3 and flat prefixes are")
    );
    Ok(Box::new(Bottleneck::from_config(config)?))
}

fn unread(key: &str, value: &Value) -> Error {
    let cure = "where the library that wrote it can merge it into its base, do that there and save the whole";
    fault(format!("`{key}` {value} is not read"), cure)
}

/// What a config says: yes or no, which is no where it says nothing.
fn is(config: &Value, key: &str) -> Result<bool> {
    match &config[key] {
        Value::Null => Ok(false),
        value => value.as_bool().ok_or_else(|| unread(key, value)),
    }
}

/// A number of a config, if it says one.
fn number(config: &Value, key: &str) -> Result<Option<f64>> {
    match &config[key] {
        Value::Null => Ok(None),
        value => value.as_f64().map(Some).ok_or_else(|| unread(key, value)),
    }
}

/// Numbers of layers of a config: a list, or one.
fn layers(config: &Value, key: &str) -> Result<Vec<u64>> {
    let all = match &config[key] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(all) => all.iter().map(Value::as_u64).collect(),
        one => one.as_u64().map(|one| vec![one]),
    };
    all.ok_or_else(|| unread(key, &config[key]))
}

/// Whether a value in a config asks for something.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// Fails if one of these keys of a config asks for something.
fn off(config: &Value, keys: &[&str]) -> Result<()> {
    match keys.iter().find(|key| asks(&config[**key])) {
        None => Ok(()),
        Some(key) => Err(unread(key, &config[*key])),
    }
}

/// Fails if a key that is not among the `known` asks for something: whatever that is, it is not computed here.
fn no_more(config: &Value, known: &[&str]) -> Result<()> {
    let all = config.as_object().into_iter().flatten();
    let own = |key: &str| known.contains(&key) || COMMON.contains(&key);
    match all.into_iter().find(|(key, value)| !own(key) && asks(value)) {
        None => Ok(()),
        Some((key, value)) => Err(unread(key, value)),
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
