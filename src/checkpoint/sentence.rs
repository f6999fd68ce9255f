//! What sentence-transformers says beside a model of how vectors are made with it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Checkpoint;
use crate::flags::fault;
use crate::model::{FormArgs, Pool};
use crate::text::Length;

const MODULES: &str = "modules.json";
/// Modules that are the encoder itself; those of one architecture are of its first versions.
const ENCODERS: [&str; 4] = ["Transformer", "BERT", "RoBERTa", "DistilBERT"];
/// Where the encoder's settings stand, by the same versions.
const SETTINGS: [&str; 3] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
];
const PROMPTS: &str = "config_sentence_transformers.json";
const OVERRULED: &str =
    "--pool mean, cls, max or none overrules it, and makes vectors of the encoder alone";

/// The settings; all as usual where there are none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sentence {
    /// The file that says which modules there are, if there is one.
    pub file: Option<PathBuf>,
    pub pool: Option<Pool>,
    pub normalize: bool,
    /// Tokens of a sequence at most.
    pub max_length: Option<u32>,
    /// What stands before every text.
    pub prompt: String,
    /// Whether texts are put in lower case, whatever the tokenizer does.
    pub lower_case: bool,
    /// Whether the vectors of the prompt's tokens are left out.
    skips_prompt: bool,
}

#[derive(Deserialize)]
struct Module {
    path: PathBuf,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Settings {
    max_seq_length: Option<u32>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: HashMap<String, String>,
    default_prompt_name: Option<String>,
}

impl Sentence {
    /// Those of a model, an adapter's own before its base's; see `read`.
    pub fn of(checkpoint: &Checkpoint, overruled: bool) -> Result<Self> {
        let mut dirs = [&checkpoint.home, &checkpoint.dir].into_iter();
        let dir = dirs.find(|dir| dir.join(MODULES).exists());
        let own = dir.map_or(Ok(Self::default()), |dir| Self::read(dir, overruled))?;
        let most = checkpoint.sizes().max_length as u32;
        Ok(Self { max_length: own.max_length.map(|length| length.min(most)), ..own })
    }

    /// Reads the settings in `dir`. Where `overruled`, what is said of pooling does not matter; else a module or a mode of
    /// pooling that there is none of here is an error.
    fn read(dir: &Path, overruled: bool) -> Result<Self> {
        let file = dir.join(MODULES);
        let Some(modules) = json::<Vec<Module>>(&file)? else { return Ok(Self::default()) };
        let mut all = Self { file: Some(file.clone()), ..Self::default() };
        for Module { path, kind } in modules {
            let name = kind.rsplit('.').next().unwrap_or_default();
            match name {
                name if ENCODERS.contains(&name) => all.take_settings(&dir.join(path))?,
                "Pooling" if !overruled => {
                    let (pool, skips_prompt) = pool(&dir.join(path))?;
                    (all.pool, all.skips_prompt) = (Some(pool), skips_prompt);
                }
                "Normalize" if !overruled => all.normalize = true,
                // It drops while training only.
                "Dropout" => {}
                _ if overruled => {}
                name => {
                    let known = "Transformer, Pooling, Normalize";
                    let cause = format!("{}: module {name} is none of {known}", file.display());
                    return Err(fault(cause, OVERRULED));
                }
            }
        }
        all.prompt = prompt(&dir.join(PROMPTS))?;
        ensure!(!all.skips_prompt || all.prompt.is_empty(), unpooled(&file));
        Ok(all)
    }

    fn take_settings(&mut self, dir: &Path) -> Result<()> {
        for file in SETTINGS {
            if let Some(Settings { max_seq_length, do_lower_case }) = json(&dir.join(file))? {
                (self.max_length, self.lower_case) = (max_seq_length, do_lower_case);
                break;
            }
        }
        Ok(())
    }

    /// What of it holds beside these flags, in words; `length` where texts are encoded.
    pub fn taken(&self, flags: &FormArgs, length: Option<&Length>) -> Option<String> {
        let form = flags.form(self.pool, self.normalize);
        let mut taken = Vec::new();
        taken.extend(
            self.pool
                .filter(|_| flags.pool.is_none())
                .map(|pool| format!("--pool {}", pool.name())),
        );
        taken.extend((form.normalize && flags.normalize.is_none()).then(|| "--normalize".into()));
        if let Some(Length { max_length, .. }) = length {
            let own = self.max_length.filter(|_| max_length.is_none());
            taken.extend(own.map(|own| format!("--max-length {own}")));
            let prompt = (!self.prompt.is_empty()).then_some(&self.prompt);
            taken.extend(prompt.map(|prompt| format!("{prompt:?} before each text")));
            taken.extend(self.lower_case.then(|| "texts in lower case".into()));
        }
        let file = self.file.as_ref().filter(|_| !taken.is_empty())?;
        Some(format!("{}: {}", file.display(), taken.join(", ")))
    }

    /// A text as it is to be encoded.
    pub fn prepare(&self, text: String) -> String {
        self.cased(if self.prompt.is_empty() { text } else { format!("{}{text}", self.prompt) })
    }

    /// In lower case, if texts are.
    pub fn cased(&self, text: String) -> String {
        if self.lower_case { text.to_lowercase() } else { text }
    }
}

/// What stands before every text.
fn prompt(file: &Path) -> Result<String> {
    let Some(Prompts { mut prompts, default_prompt_name: Some(name) }) = json(file)? else {
        return Ok(String::new());
    };
    let cause = || format!("{}: default_prompt_name {name} is none of its prompts", file.display());
    prompts.remove(&name).ok_or_else(|| fault(cause(), "name one of them, or leave the key out"))
}

fn unpooled(file: &Path) -> anyhow::Error {
    let cause = "a prompt whose tokens pooling leaves out (include_prompt) is not known here";
    fault(format!("{}: {cause}", file.display()), OVERRULED)
}

/// The one mode of pooling that is set, and whether it leaves out a prompt.
fn pool(dir: &Path) -> Result<(Pool, bool)> {
    let file = dir.join("config.json");
    let named = || file.display().to_string();
    let missing = || fault(format!("{}: no such file, which {MODULES} names", named()), OVERRULED);
    let config: HashMap<String, Value> = json(&file)?.ok_or_else(missing)?;
    let skips_prompt = config.get("include_prompt") == Some(&Value::Bool(false));
    let mut modes: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::Array(modes)) => {
            modes.iter().map(|mode| mode.as_str().unwrap_or("?")).collect()
        }
        Some(mode) => vec![mode.as_str().unwrap_or("?")],
        None => {
            let set = config.iter().filter(|(_, is)| **is == Value::Bool(true));
            set.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect()
        }
    };
    modes.sort_unstable();
    let cause = match modes[..] {
        // What is said of no mode is the mean, there as here.
        [] | ["mean" | "mean_tokens"] => return Ok((Pool::Mean, skips_prompt)),
        ["cls" | "cls_token"] => return Ok((Pool::Cls, skips_prompt)),
        ["max" | "max_tokens"] => return Ok((Pool::Max, skips_prompt)),
        [mode] => format!("{}: pooling {mode} is none of mean, cls, max", named()),
        _ => {
            let modes = modes.join(" and ");
            format!("{}: it joins the poolings {modes}; one is made here", named())
        }
    };
    Err(fault(cause, OVERRULED))
}

/// What a file holds; nothing if it is not there.
fn json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    if !file.exists() {
        return Ok(None);
    }
    let named = || file.display().to_string();
    let text = fs::read(file).with_context(named)?;
    let value = serde_json::from_slice(&text).context("not as sentence-transformers writes it");
    value.with_context(named).map(Some)
}
