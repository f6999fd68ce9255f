//! LoRA (Hu et al. 2021, section 4.1): `y = W x + (alpha / r) B A x`, with W frozen. Names, scale and
//! initialisation as in peft.

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::nn::{Delta, Dropout, Init, Peft, Scope};

/// Words for targets, and what the architectures call them.
const WORDS: [(&str, &[&str]); 6] = [
    ("query", &["query", "q_lin"]),
    ("key", &["key", "k_lin"]),
    ("value", &["value", "v_lin"]),
    (
        "attention",
        &["query", "key", "value", "attention.output.dense", "q_lin", "k_lin", "v_lin", "out_lin"],
    ),
    ("ffn", &["intermediate.dense", "output.dense", "lin1", "lin2"]),
    (
        "all",
        &[
            "query",
            "key",
            "value",
            "intermediate.dense",
            "output.dense",
            "q_lin",
            "k_lin",
            "v_lin",
            "out_lin",
            "lin1",
            "lin2",
        ],
    ),
];

/// Settings of LoRA.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub struct LoraConfig {
    /// LoRA: rank of the update
    #[arg(long, default_value_t = 8, value_parser = rank)]
    pub rank: i64,

    /// LoRA: the update is scaled by alpha / rank
    #[arg(long, default_value_t = 16.0)]
    pub alpha: f64,

    /// LoRA: dropout on what goes into the update
    #[arg(long, default_value_t = 0.0, value_parser = crate::flags::share)]
    pub dropout: f64,

    /// LoRA: linear layers it updates, by the end of their name or as query, key, value, attention, ffn, all
    #[arg(long, value_delimiter = ',', default_value = "query,value")]
    pub targets: Vec<String>,
}

fn rank(text: &str) -> Result<i64, String> {
    crate::flags::count(text).map(|rank| rank as i64)
}

impl LoraConfig {
    /// The targets with words spelt out as names of layers.
    pub fn modules(&self) -> Vec<String> {
        let spell = |target: &String| match WORDS.iter().find(|(word, _)| word == target) {
            Some((_, names)) => names.iter().map(ToString::to_string).collect(),
            None => vec![target.clone()],
        };
        let mut modules: Vec<String> = self.targets.iter().flat_map(spell).collect();
        modules.sort();
        modules.dedup();
        modules
    }
}

/// The plan: the encoder is frozen, the targets get an update.
#[derive(Debug)]
pub struct Lora {
    config: LoraConfig,
    modules: Vec<String>,
    spares: bool,
}

impl Lora {
    pub fn new(config: LoraConfig) -> Result<Self> {
        ensure!(config.rank > 0, "--rank {}: at least 1 is wanted", config.rank);
        let (modules, spares) = (config.modules(), Self::spares_attention(&config));
        Ok(Self { config, modules, spares })
    }

    /// `ffn` names `output.dense`, which is also the end of attention's; that one is meant only where it is named.
    fn spares_attention(config: &LoraConfig) -> bool {
        let named = |word: &str| config.targets.iter().any(|target| target == word);
        named("ffn") && !["attention", "all", "output.dense"].into_iter().any(named)
    }

    /// As peft matches `target_modules`: the whole name, or its end after a dot.
    fn is_target(&self, path: &str) -> bool {
        if self.spares && path.ends_with(".attention.output.dense") {
            return false;
        }
        self.modules.iter().any(|module| {
            path.strip_suffix(module.as_str())
                .is_some_and(|front| front.is_empty() || front.ends_with('.'))
        })
    }
}

impl Peft for Lora {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn delta(&self, at: &Scope, fan_in: i64, fan_out: i64) -> Option<Box<dyn Delta>> {
        self.is_target(at.path()).then(|| {
            let (rank, at) = (self.config.rank, at.added());
            // Kaiming-uniform with a = sqrt(5), which is torch's for linear layers.
            let bound = 1.0 / (fan_in as f64).sqrt();
            let down = at.parameter("lora_A.weight", &[rank, fan_in], Init::Uniform(bound));
            let up = at.parameter("lora_B.weight", &[fan_out, rank], Init::Zeros);
            let scale = self.config.alpha / rank as f64;
            let dropout = Dropout(self.config.dropout);
            Box::new(Update { down, up, scale, dropout }) as Box<dyn Delta>
        })
    }
}

/// The update of one layer.
#[derive(Debug)]
struct Update {
    /// `[rank, in]`
    down: Tensor,
    /// `[out, rank]`
    up: Tensor,
    scale: f64,
    dropout: Dropout,
}

impl Delta for Update {
    fn apply(&self, xs: &Tensor, ys: Tensor, train: bool) -> Tensor {
        let none: Option<Tensor> = None;
        let xs = self.dropout.forward(xs.shallow_clone(), train);
        ys + xs.linear(&self.down, none.as_ref()).linear(&self.up, none.as_ref()) * self.scale
    }
}
