//! The Hugging Face hub: repositories of models and data sets, fetched into the cache that Python's huggingface_hub
//! keeps, and read from there. What lies on disk under the same name always wins.

mod cache;
mod check;
mod download;
mod http;
mod repo;
mod settings;
mod snapshot;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use repo::{Kind, Repo};
pub use settings::Settings;
pub use snapshot::Snapshot;

use crate::flags::fault;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
/// Of AdapterHub, which calls the config as PEFT does.
const ADAPTERHUB: [&str; 4] =
    ["adapter_config.json", "head_config.json", "model_head.safetensors", "adapter.safetensors"];
/// Weights that are not read.
const PICKLES: [&str; 3] = ["pytorch_model.bin", "adapter_model.bin", "pytorch_adapter.bin"];
const TOKENIZER: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];

/// What sentence-transformers says beside a model of how vectors are made with it.
const SENTENCE: [&str; 6] = [
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "config_sentence_transformers.json",
];

/// The directory of a model or an adapter: `name` where there is such a path, else a snapshot of the hub's
/// repository, with config, tokenizer and weights.
pub fn model(name: &Path) -> Result<PathBuf> {
    let Some(snapshot) = named(name)? else { return Ok(name.to_owned()) };
    let has = |file: &str| snapshot.files().iter().any(|own| own == file);
    let weights = match (has(ADAPTER[0]), has(ADAPTERHUB[3])) {
        (true, true) => ADAPTERHUB.as_slice(),
        (true, false) => &ADAPTER,
        _ => &[WEIGHTS],
    };
    if let Some(missing) = weights.iter().find(|file| !has(file)) {
        return Err(no_weights(&snapshot, missing));
    }
    snapshot.fetch_those_of(&[CONFIG])?;
    snapshot.fetch_those_of(&TOKENIZER)?;
    snapshot.fetch_those_of(&SENTENCE)?;
    snapshot.fetch_those_of(weights)?;
    Ok(snapshot.dir())
}

/// The directory of a tokenizer, in the same way, without the weights.
pub fn tokenizer(name: &Path) -> Result<PathBuf> {
    let Some(snapshot) = named(name)? else { return Ok(name.to_owned()) };
    snapshot.fetch_those_of(&[CONFIG])?;
    snapshot.fetch_those_of(&TOKENIZER)?;
    Ok(snapshot.dir())
}

/// A model's name without its revision, and the revision, if one is given; a path as it is.
pub fn revision(name: &Path) -> (PathBuf, Option<String>) {
    let given = name.to_str().is_some_and(|name| name.contains('@'));
    match repository(name).filter(|_| given) {
        Some(repo) => (repo.id.into(), Some(repo.revision)),
        None => (name.to_owned(), None),
    }
}

/// The snapshot that `name` stands for; nothing if it is a path.
fn named(name: &Path) -> Result<Option<Snapshot>> {
    repository(name).map(|repo| Snapshot::open(repo, Settings::from_env()?)).transpose()
}

fn repository(name: &Path) -> Option<Repo> {
    let text = name.to_str().filter(|_| !name.exists())?;
    Repo::parse(Kind::Model, text)
}

fn no_weights(snapshot: &Snapshot, missing: &str) -> anyhow::Error {
    let has = |file: &str| snapshot.files().iter().any(|own| own == file);
    let pickle = PICKLES.into_iter().find(|file| has(file));
    let cure = match pickle {
        _ if snapshot.is_offline() => {
            "the cache has only a part of it; unset HF_HUB_OFFLINE to download the rest".to_owned()
        }
        _ if has("model.safetensors.index.json") => {
            "its weights are split over several files, which is not read".to_owned()
        }
        Some(pickle) => format!(
            "it has {pickle}, but pickle is not read; another revision (NAME@refs/pr/N) may have safetensors"
        ),
        None => "is it the model of an encoder?".to_owned(),
    };
    fault(format!("{}: has no {missing}", snapshot.repo()), cure)
}
