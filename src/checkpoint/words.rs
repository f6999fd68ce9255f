//! The words that `prep --extend` added to a model.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::flags::fault;

/// Their ids, from `words.jsonl` in the model's directory.
pub fn added_words(dir: &Path) -> Result<Vec<i64>> {
    let path = dir.join("words.jsonl");
    let named = || path.display().to_string();
    let text = fs::read_to_string(&path).map_err(|error| {
        fault(format!("{}: {error}", named()), "name the tokens to train: --tokens 30522-30541")
    })?;
    let id = |line: &str| serde_json::from_str::<Value>(line).ok()?["id"].as_i64();
    let ids: Option<Vec<i64>> = text.lines().map(id).collect();
    ids.with_context(|| format!("{}: every line must have an `id`", named()))
}
