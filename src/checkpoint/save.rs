//! Writing a Hugging Face directory: config and tokenizer first, weights last, each file beside and renamed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::durable::write_beside;
use super::{names, write_tensors};
use crate::model::Architecture;
use crate::nn::Parameters;
use crate::shard::Problem;
use crate::text::FILES;

/// `config` as transformers' `…ForMaskedLM` has it.
pub fn mlm_config(config: &Value, architecture: &dyn Architecture) -> Value {
    let mut config = config.clone();
    set_class(&mut config, architecture, "ForMaskedLM");
    for key in ["id2label", "label2id", "problem_type"] {
        config.as_object_mut().map(|map| map.shift_remove(key));
    }
    config
}

/// `config` as transformers' `…ForSequenceClassification` has it, to predict these classes.
pub fn class_config(
    config: &Value,
    architecture: &dyn Architecture,
    (labels, problem): (&[String], Problem),
) -> Value {
    let mut config = config.clone();
    set_class(&mut config, architecture, "ForSequenceClassification");
    let numbered = || labels.iter().enumerate();
    let names: Map<_, _> = numbered().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let numbers: Map<_, _> = numbered().map(|(i, name)| (name.clone(), json!(i))).collect();
    config["id2label"] = names.into();
    config["label2id"] = numbers.into();
    config["problem_type"] = json!(problem.name());
    config
}

fn set_class(config: &mut Value, architecture: &dyn Architecture, suffix: &str) {
    config["architectures"] = json!([format!("{}{suffix}", architecture.class())]);
    for key in ["dtype", "torch_dtype"] {
        if config.get(key).is_some() {
            config[key] = json!("float32");
        }
    }
}

/// `config` for a decoder that is not the word embeddings.
pub fn untied_config(mut config: Value) -> Value {
    config["tie_word_embeddings"] = json!(false);
    config
}

/// Writes the whole model to `dir`. BERT's pooler goes along if a checkpoint brought one no head used.
pub fn save_model(
    dir: &Path,
    config: &Value,
    tokenizer: &Path,
    parameters: &Parameters,
) -> Result<()> {
    write_json(&dir.join("config.json"), config)?;
    copy_tokenizer(tokenizer, dir)?;
    let passengers = parameters.left_over().iter().filter(|(name, _)| names::is_pooler(name));
    let floats: Vec<_> =
        passengers.map(|(name, t)| (name.clone(), t.totype(tch::Kind::Float))).collect();
    let own = parameters.iter().filter(|p| !p.added).map(|p| (p.name.clone(), &p.tensor));
    let all = own.chain(floats.iter().map(|(name, t)| (name.clone(), t)));
    write_tensors(&dir.join("model.safetensors"), all, ("format", "pt".into()))
}

/// Copies the tokenizer's files; both paths may be the same directory.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    if from.canonicalize().ok() == to.canonicalize().ok() {
        return Ok(());
    }
    for name in FILES {
        let (from, to) = (from.join(name), to.join(name));
        if from.exists() {
            let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
            write_beside(&to, &bytes)?;
        }
    }
    Ok(())
}

pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_beside(path, format!("{value:#}\n").as_bytes())
}
