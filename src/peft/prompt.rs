//! Prompt tuning (Lester et al. 2021, section 2): embeddings that train stand before those of every text; they begin as
//! those of words of the vocabulary (section 3.2). Files as in peft, where a classifier reads the first of them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

use super::prefix::EMBEDDINGS;
use super::{About, Method, no_more};
use crate::nn::{Init, Parameters, Peft, Scope, Table};

/// The plan: everything is frozen but the virtual tokens.
#[derive(Debug)]
pub struct PromptTuning {
    pub tokens: i64,
}

/// A whole number from 1 to the most an encoder could take.
pub fn count(text: &str) -> Result<i64, String> {
    let count = text.parse().ok().filter(|count| (1..=LONGEST).contains(count));
    count.ok_or_else(|| format!("a whole number from 1 to {LONGEST} is wanted"))
}

const LONGEST: i64 = 65_536;

/// How many virtual tokens a config says there are.
pub fn tokens_of(config: &Value, key: &str) -> Result<i64> {
    let tokens = config[key].as_i64().filter(|n| (1..=LONGEST).contains(n));
    tokens.with_context(|| format!("`{key}` must be a whole number above 0"))
}

/// Keys of peft's config with virtual tokens; the model says its sizes itself.
pub const KEYS: [&str; 6] = [
    "num_virtual_tokens",
    "num_transformer_submodules",
    "num_attention_heads",
    "num_layers",
    "token_dim",
    "init_weights",
];
const HOW_IT_BEGAN: [&str; 4] =
    ["prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_kwargs", "tokenizer_name_or_path"];

/// How many virtual tokens peft's config says an encoder has.
pub fn of_config(config: &Value) -> Result<i64> {
    let parts = &config["num_transformer_submodules"];
    ensure!(parts.is_null() || *parts == 1, super::unread("num_transformer_submodules", parts));
    tokens_of(config, "num_virtual_tokens")
}

impl PromptTuning {
    /// From the keys of an `adapter_config.json`.
    pub fn from_config(config: &Value) -> Result<Self> {
        no_more(config, &[&KEYS[..], &HOW_IT_BEGAN].concat())?;
        Ok(Self { tokens: of_config(config)? })
    }
}

impl Peft for PromptTuning {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn table(&self, at: &Scope, own: &Tensor) -> Option<Box<dyn Table>> {
        if !at.path().ends_with("word_embeddings") {
            return None;
        }
        let (at, (count, size)) = (at.top().added(), own.size2().ok()?);
        let is_new = !at.is_given(EMBEDDINGS);
        let mut prompt = at.parameter(EMBEDDINGS, &[self.tokens, size], Init::Uniform(0.5));
        if is_new {
            // Which words is drawn as every parameter is: by the seed and the name.
            let drawn = (prompt.detach().select(1, 0) + 0.5) * count as f64;
            let words = drawn.floor().to_kind(Kind::Int64).clamp(0, count - 1);
            no_grad(|| prompt.copy_(&own.index_select(0, &words)));
        }
        Some(Box::new(Prompt { prompt, count }))
    }
}

impl Method for PromptTuning {
    fn merges(&self) -> bool {
        false
    }

    fn virtual_tokens(&self) -> i64 {
        self.tokens
    }

    fn about(&self, _: &Parameters) -> Option<About> {
        Some(About::peft([
            ("peft_type", json!("PROMPT_TUNING")),
            ("num_virtual_tokens", json!(self.tokens)),
            ("num_transformer_submodules", json!(1)),
            ("prompt_tuning_init", json!("RANDOM")),
            ("prompt_tuning_init_text", Value::Null),
            ("tokenizer_name_or_path", Value::Null),
        ]))
    }
}

/// A table of words, and the virtual tokens behind its last row.
#[derive(Debug)]
struct Prompt {
    /// `[virtual tokens, size]`
    prompt: Tensor,
    /// Rows of the table.
    count: i64,
}

impl Table for Prompt {
    fn forward(&self, ids: &Tensor, own: &Tensor) -> Tensor {
        let rows = |of: &Tensor, ids: Tensor| Tensor::embedding(of, &ids, -1, false, false);
        let words = rows(own, ids.clamp_max(self.count - 1));
        let added = rows(&self.prompt, (ids - self.count).clamp_min(0));
        words.where_self(&ids.less(self.count).unsqueeze(1), &added)
    }

    fn virtual_tokens(&self) -> i64 {
        self.prompt.size()[0]
    }
}
