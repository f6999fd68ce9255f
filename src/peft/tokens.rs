//! Chosen rows of the word embeddings train, the rest stays as it is: for words that were added to a vocabulary. As
//! peft's trainable tokens. A decoder tied to the embeddings has the same rows.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

use super::{About, Method, no_more};
use crate::nn::{Init, Parameters, Peft, Scope, Table};

/// The parameter's name below the table, as in peft's file.
pub const ROWS: &str = "trainable_tokens_delta";

/// What every architecture calls the table.
const WORDS: &str = "word_embeddings";

/// The plan: everything is frozen but these rows.
#[derive(Debug)]
pub struct Tokens {
    ids: Vec<i64>,
    /// peft's name of the table.
    name: String,
}

/// `30522` or `30522-30541`.
pub fn range(text: &str) -> Result<(i64, i64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ends = first.parse().ok().zip(last.parse().ok());
    let known =
        ends.filter(|&(first, last): &(i64, i64)| (0..=last).contains(&first) && last < LARGEST);
    known.ok_or_else(|| "an id, or a range of ids like 30522-30541, is wanted".to_owned())
}

/// No vocabulary is larger.
const LARGEST: i64 = 1 << 24;

impl Tokens {
    /// Ids of tokens, in any order.
    pub fn new(mut ids: Vec<i64>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self { ids, name: WORDS.to_owned() }
    }

    /// From the keys of an `adapter_config.json`.
    pub fn from_config(config: &Value) -> Result<Self> {
        no_more(config, &["target_modules", "token_indices", "init_weights"])?;
        let targets = &config["target_modules"];
        let name = targets.as_str().or_else(|| targets.as_array()?.first()?.as_str());
        let name = name.unwrap_or(WORDS).to_owned();
        ensure!(name.ends_with(WORDS), super::unread("target_modules", targets));
        Ok(Self { ids: numbers(&config["token_indices"])?, name })
    }

    /// From `trainable_token_indices` in the config of another method.
    pub fn beside(config: &Value) -> Result<Option<Self>> {
        let ids = match config {
            Value::Null => return Ok(None),
            Value::Object(tables) => {
                let known = tables.len() == 1 && tables.keys().all(|name| name.ends_with(WORDS));
                ensure!(known, super::unread("trainable_token_indices", config));
                tables.values().next().map_or_else(|| Ok(Vec::new()), numbers)?
            }
            list => numbers(list)?,
        };
        Ok(Some(Self { ids, name: WORDS.to_owned() }))
    }

    /// `trainable_token_indices` in the config of another method.
    pub fn to_config(&self) -> Value {
        json!({ &self.name: self.ids })
    }
}

fn numbers(list: &Value) -> Result<Vec<i64>> {
    let ids: Option<Vec<i64>> = list.as_array().into_iter().flatten().map(Value::as_i64).collect();
    ids.context("ids of tokens must be a list of numbers")
}

impl Peft for Tokens {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn table(&self, at: &Scope, own: &Tensor) -> Option<Box<dyn Table>> {
        if !at.path().ends_with(WORDS) {
            return None;
        }
        let (count, size) = own.size2().ok()?;
        if let Some(id) = self.ids.iter().find(|id| !(0..count).contains(id)) {
            at.fault(format!("token {id}: the vocabulary has {count}"));
            return None;
        }
        let at = at.added();
        let is_new = !at.is_given(ROWS);
        let mut rows = at.parameter(ROWS, &[self.ids.len() as i64, size], Init::Zeros);
        let ids = Tensor::from_slice(&self.ids).to_device(own.device());
        if is_new {
            no_grad(|| rows.copy_(&own.index_select(0, &ids)));
        }
        let places = Tensor::full([count], -1, (Kind::Int64, own.device()));
        let order = Tensor::arange(self.ids.len() as i64, (Kind::Int64, own.device()));
        Some(Box::new(Rows { places: places.index_copy(0, &ids, &order), rows, ids }))
    }
}

impl Method for Tokens {
    fn about(&self, _: &Parameters) -> Option<About> {
        Some(About::peft([
            ("peft_type", json!("TRAINABLE_TOKENS")),
            ("target_modules", json!([self.name])),
            ("token_indices", json!(self.ids)),
            ("init_weights", json!(true)),
        ]))
    }
}

/// A table with some of its rows in another place.
#[derive(Debug)]
struct Rows {
    /// `[rows, size]`
    rows: Tensor,
    /// Whose rows they are `[rows]`.
    ids: Tensor,
    /// For each token its row, -1 where it has none `[count]`.
    places: Tensor,
}

impl Table for Rows {
    fn forward(&self, ids: &Tensor, own: &Tensor) -> Tensor {
        let rows = |of: &Tensor, ids: &Tensor| Tensor::embedding(of, ids, -1, false, false);
        let places = self.places.index_select(0, ids);
        let added = rows(&self.rows, &places.clamp_min(0));
        added.where_self(&places.ge(0).unsqueeze(1), &rows(own, ids))
    }

    fn rows(&self, own: &Tensor) -> Tensor {
        own.index_copy(0, &self.ids, &self.rows)
    }

    fn merged(&self, own: &Tensor) -> Option<Tensor> {
        Some(no_grad(|| self.rows(own)))
    }
}
