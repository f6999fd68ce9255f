//! LoRA (Hu et al. 2021, section 4.1): `y = W x + s B A x` with W frozen, s = alpha / rank. rsLoRA (Kalajdzievski 2023)
//! has s = alpha / sqrt(rank). Names, scales and initialisations as in peft.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Tensor, no_grad};

use super::dora::Decomposed;
use super::targets::{Patterns, Targets};
use super::tokens::{ROWS, Tokens};
use super::{About, Method, is, no_more, number, pairs};
use crate::flags::usage;
use crate::native;
use crate::nn::{Affine, Delta, Dropout, Init, Parameters, Peft, Scope, Table};

/// No rank is larger.
const LARGEST: f64 = 65_536.0;

/// Keys of peft's config that are read, and behind them those that change nothing of what is computed.
const KEYS: [&str; 19] = [
    "alpha_pattern",
    "bias",
    "eva_config",
    "exclude_modules",
    "init_lora_weights",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "r",
    "rank_pattern",
    "target_modules",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
    "layers_pattern",
    "megatron_core",
    "merge_weights",
    "qalora_group_size",
    "runtime_config",
];

/// Settings of LoRA, rsLoRA and DoRA.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub struct LoraConfig {
    /// LoRA, DoRA: rank of the update
    #[arg(long, default_value_t = 8, value_parser = rank)]
    pub rank: i64,

    /// LoRA, DoRA: the update is scaled by alpha / rank, rsLoRA's by alpha / sqrt(rank)
    #[arg(long, default_value_t = 16.0)]
    pub alpha: f64,

    /// LoRA, DoRA: dropout on what goes into the update; adapter: on what comes out
    #[arg(long, default_value_t = 0.0, value_parser = crate::flags::share)]
    pub dropout: f64,

    /// LoRA, DoRA, IA3: linear layers, by the end of their name or as query, key, value, attention, ffn, all
    /// [default: query,value; IA3: key, value and the second of ffn]
    #[arg(long, value_delimiter = ',', value_name = "LAYERS")]
    pub targets: Vec<String>,

    /// LoRA, DoRA: another rank where the end of a layer's name matches a regular expression
    #[arg(long, value_delimiter = ',', value_name = "REGEX=RANK")]
    pub rank_pattern: Vec<String>,

    /// LoRA, DoRA: another alpha where the end of a layer's name matches a regular expression
    #[arg(long, value_delimiter = ',', value_name = "REGEX=ALPHA")]
    pub alpha_pattern: Vec<String>,

    /// LoRA, DoRA: how the update begins
    #[arg(long, value_enum, default_value_t = Start::Default)]
    pub init: Start,
}

/// The same ranks. Fails if they, or `rank`, are none.
fn whole(ranks: Patterns, rank: i64) -> Result<Patterns> {
    let is_rank = |rank: &f64| rank.fract() == 0.0 && (1.0..=LARGEST).contains(rank);
    let odd = ranks.numbers().chain([rank as f64]).find(|rank| !is_rank(rank));
    match odd {
        None => Ok(ranks),
        Some(odd) => bail!(usage(format!("rank {odd}: a whole number from 1 to {LARGEST}"))),
    }
}

fn rank(text: &str) -> Result<i64, String> {
    crate::flags::count(text).map(|rank| rank as i64)
}

/// How A and B begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// A uniform as torch's linear layers, B zero
    Default,
    /// A normal with deviation 1 / rank, B zero
    Gaussian,
    /// The first singular vectors of the weight; what is left of it is frozen (Meng et al. 2024)
    Pissa,
    /// The first columns of the weight's QR decomposition; what is left of it is frozen (Büyükakyüz 2024)
    Olora,
}

impl Start {
    fn from_config(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::Null | Value::Bool(_) => Self::Default,
            value => match value.as_str().unwrap_or_default() {
                // Of these the weight is left as it was, and the file has all that is trained.
                "eva" | "orthogonal" => Self::Default,
                "gaussian" => Self::Gaussian,
                "pissa" => Self::Pissa,
                "olora" => Self::Olora,
                _ => Err(super::unread("init_lora_weights", value))?,
            },
        })
    }

    /// A `[rank, in]` and B `[out, rank]`, where they are taken from the weight `[out, in]`.
    fn factors(self, weight: &Tensor, rank: i64, scale: f64) -> Option<(Tensor, Tensor)> {
        let first = |t: &Tensor, dim| t.narrow(dim, 0, rank).contiguous();
        match self {
            Self::Default | Self::Gaussian => None,
            Self::Pissa => {
                let (left, values, right) = weight.svd(true, true);
                let roots = (first(&values, 0) / scale).sqrt();
                Some(((first(&right, 1) * &roots).tr().contiguous(), first(&left, 1) * &roots))
            }
            Self::Olora => {
                let (q, r) = Tensor::linalg_qr(weight, "reduced");
                Some((first(&r, 0), first(&q, 1)))
            }
        }
    }
}

/// The plan: the encoder is frozen, the targets get an update.
#[derive(Debug)]
pub struct Lora {
    config: LoraConfig,
    targets: Targets,
    ranks: Patterns,
    alphas: Patterns,
    /// rsLoRA.
    by_root: bool,
    /// DoRA.
    decomposed: bool,
    /// Rows of the word embeddings that train beside the updates.
    tokens: Option<Tokens>,
    /// A and B as they began, of layers that were left without them.
    initial: RefCell<BTreeMap<String, (Tensor, Tensor)>>,
}

impl Lora {
    pub fn new(config: &LoraConfig) -> Result<Self> {
        let query_value = || vec!["query".to_owned(), "value".to_owned()];
        let words = if config.targets.is_empty() { query_value() } else { config.targets.clone() };
        let ranks = pairs("--rank-pattern", &config.rank_pattern)?;
        Ok(Self {
            targets: Targets::new(&words),
            ranks: whole(ranks, config.rank)?,
            alphas: pairs("--alpha-pattern", &config.alpha_pattern)?,
            by_root: false,
            decomposed: false,
            tokens: None,
            initial: RefCell::default(),
            config: config.clone(),
        })
    }

    /// The same, scaled by the root of the rank.
    pub fn by_root(self) -> Self {
        Self { by_root: true, ..self }
    }

    /// The same, with magnitude and direction apart.
    pub fn decomposed(self) -> Self {
        Self { decomposed: true, ..self }
    }

    /// The same, with rows of the word embeddings that train.
    pub fn with(self, tokens: Option<Tokens>) -> Self {
        Self { tokens, ..self }
    }

    /// From the keys of an `adapter_config.json`.
    pub fn from_config(value: &Value) -> Result<Self> {
        no_more(value, &KEYS)?;
        let bias = value["bias"].as_str().unwrap_or("none");
        ensure!(bias == "none", super::unread("bias", &value["bias"]));
        let config = LoraConfig {
            rank: value["r"].as_i64().filter(|&rank| rank > 0).context("`r` must be above 0")?,
            alpha: number(value, "lora_alpha")?.context("`lora_alpha` must be a number")?,
            dropout: number(value, "lora_dropout")?.unwrap_or(0.0),
            targets: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            init: Start::from_config(&value["init_lora_weights"])?,
        };
        Ok(Self {
            targets: Targets::from_config(value)?,
            ranks: whole(Patterns::from_config(value, "rank_pattern")?, config.rank)?,
            alphas: Patterns::from_config(value, "alpha_pattern")?,
            by_root: is(value, "use_rslora")?,
            decomposed: is(value, "use_dora")?,
            tokens: Tokens::beside(&value["trainable_token_indices"])?,
            ..Self::new(&config)?
        })
    }

    /// Rank and scale of the layer of this name.
    fn sizes(&self, path: &str) -> (i64, f64) {
        let rank = self.ranks.get(path).unwrap_or(self.config.rank as f64);
        let alpha = self.alphas.get(path).unwrap_or(self.config.alpha);
        (rank as i64, alpha / if self.by_root { rank.sqrt() } else { rank })
    }

    fn update(&self, at: &Scope, own: &Affine) -> Update {
        let ((fan_in, fan_out), (rank, scale)) = (own.fans(), self.sizes(at.path()));
        let begin = match self.config.init {
            Start::Gaussian => Init::Normal(1.0 / rank as f64),
            // Kaiming-uniform with a = sqrt(5), which is torch's for linear layers.
            _ => Init::Uniform(1.0 / (fan_in as f64).sqrt()),
        };
        let is_new = !at.is_given("lora_A.weight");
        let down = at.parameter("lora_A.weight", &[rank, fan_in], begin);
        let up = at.parameter("lora_B.weight", &[fan_out, rank], Init::Zeros);
        let mut update = Update { down, up, scale, dropout: Dropout(self.config.dropout) };
        if rank > fan_in.min(fan_out)
            && !matches!(self.config.init, Start::Default | Start::Gaussian)
        {
            at.fault(format!(
                "{}: rank {rank} is more than its weight has, for this --init",
                at.path()
            ));
            return update;
        }
        let factors = no_grad(|| self.config.init.factors(&own.weight, rank, scale));
        if let Some((a, b)) = factors {
            update.begin(own, (&a, &b), is_new);
            self.initial.borrow_mut().insert(at.path().to_owned(), (a, b));
        }
        update
    }

    /// A or B as it is saved for an untouched base: beside the layer's own what was taken out of the weight, as peft
    /// converts them.
    fn whole(&self, name: &str, own: &Tensor) -> Tensor {
        let initial = self.initial.borrow();
        let of = |part: &str| initial.get(name.strip_suffix(part)?.trim_end_matches('.'));
        match (of("lora_A.weight"), of("lora_B.weight")) {
            (Some((a, _)), _) => Tensor::cat(&[own, a], 0),
            (_, Some((_, b))) => Tensor::cat(&[own, &-b], 1),
            _ => own.shallow_clone(),
        }
    }
}

impl Peft for Lora {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn delta(&self, at: &Scope, own: &Affine) -> Option<Box<dyn Delta>> {
        if !self.targets.has(at.path()) {
            return None;
        }
        let at = at.added();
        if !self.decomposed {
            return Some(Box::new(self.update(&at, own)));
        }
        // Before PiSSA or OLoRA takes its part of it.
        let norms = no_grad(|| norms(&own.weight));
        let update = self.update(&at, own);
        Some(Box::new(Decomposed::new(&at, own, update, &norms)))
    }

    fn table(&self, at: &Scope, own: &Tensor) -> Option<Box<dyn Table>> {
        self.tokens.as_ref()?.table(at, own)
    }
}

/// peft's place of the rows of word embeddings that train, and that of its method which trains nothing else.
fn lower(name: &str) -> String {
    match name.strip_suffix(ROWS) {
        Some(front) if front.ends_with('.') => format!("{front}token_adapter.{ROWS}"),
        _ => name.to_owned(),
    }
}

/// Length of each row of a weight.
pub fn norms(weight: &Tensor) -> Tensor {
    weight.square().sum_dim_intlist(1, false, None).sqrt()
}

impl Method for Lora {
    fn about(&self, parameters: &Parameters) -> Option<About> {
        // What was taken out of the weight doubles the rank.
        let ranks: f64 = if self.initial.borrow().is_empty() { 1.0 } else { 2.0 };
        let alphas = if self.by_root { ranks.sqrt() } else { ranks };
        let of = |end: &str| -> Vec<&str> {
            parameters.iter().filter_map(|p| p.name.strip_suffix(end)).collect()
        };
        let meant = of(".lora_A.weight");
        let all: Vec<&str> = of(".weight").into_iter().filter(|p| !p.contains(".lora_")).collect();
        let mut keys = Map::new();
        let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
        set("peft_type", json!("LORA"));
        set("r", json!(self.config.rank * ranks as i64));
        set("lora_alpha", json!(self.config.alpha * alphas));
        set("lora_dropout", json!(self.config.dropout));
        set("rank_pattern", self.ranks.to_config(ranks));
        set("alpha_pattern", self.alphas.to_config(alphas));
        set("target_modules", self.targets.to_config(&meant, &all));
        set("bias", json!("none"));
        set("fan_in_fan_out", json!(false));
        set("init_lora_weights", json!(true));
        set("layers_pattern", Value::Null);
        set("layers_to_transform", Value::Null);
        if let Some(tokens) = &self.tokens {
            set("trainable_token_indices", tokens.to_config());
        }
        for (key, on) in [("use_dora", self.decomposed), ("use_rslora", self.by_root)] {
            if on {
                set(key, json!(true));
            }
        }
        Some(About::Peft(keys))
    }

    fn tensors(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        let whole = |(name, tensor): (String, Tensor)| {
            let tensor = no_grad(|| self.whole(&name, &tensor));
            (lower(&name), tensor)
        };
        super::trained(parameters).map(whole).collect()
    }
}

/// The update of one layer.
#[derive(Debug)]
pub struct Update {
    /// A `[rank, in]`
    pub down: Tensor,
    /// B `[out, rank]`
    pub up: Tensor,
    pub scale: f64,
    pub dropout: Dropout,
}

impl Update {
    /// `s B A x`, without dropout.
    pub fn product(&self, xs: &Tensor) -> Tensor {
        let inner = native::linear(xs, &self.down, None) * self.scale;
        native::linear(&inner, &self.up, None)
    }

    /// `s B A`, `[out, in]`.
    pub fn weight(&self) -> Tensor {
        self.up.mm(&self.down) * self.scale
    }

    /// Starts from a part of the weight and takes it out there.
    fn begin(&mut self, own: &Affine, (a, b): (&Tensor, &Tensor), is_new: bool) {
        no_grad(|| {
            if is_new {
                self.down.copy_(a);
                self.up.copy_(b);
            }
            let left = &own.weight - b.mm(a) * self.scale;
            own.weight.shallow_clone().copy_(&left);
        });
    }
}

impl Delta for Update {
    fn forward(&self, xs: &Tensor, own: &Affine, train: bool) -> Tensor {
        own.forward(xs) + self.product(&self.dropout.forward(xs.shallow_clone(), train))
    }

    fn merged(&self, own: &Affine) -> Affine {
        no_grad(|| Affine::new(&own.weight + self.weight(), own.bias.shallow_clone()))
    }
}
