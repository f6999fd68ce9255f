//! Adapters in PEFT's files: `adapter_config.json`, `adapter_model.safetensors`, its names and keys; or in AdapterHub's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::weights::no_pickle;
use super::{adapterhub, copy_tokenizer, names, save, save_model, write_tensors};
use crate::flags::fault;
use crate::hub;
use crate::model::{Architecture, Sizes, architecture};
use crate::nn::Parameters;
use crate::peft::{About, Files, Method, about_in, from_config};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
/// What stands before the names of a head where virtual tokens train: peft has nothing between it and the model then.
const OUTER: &str = "base_model.";

/// An adapter as it lies in its directory.
#[derive(Debug)]
pub struct Adapter {
    pub base: PathBuf,
    /// The base as it was asked for: a path, or a name on the hub.
    pub name: PathBuf,
    /// None where it was taken, to train on.
    pub plan: Option<Box<dyn Method>>,
    /// Under the names the model builds them by.
    pub tensors: BTreeMap<String, Tensor>,
    /// Whose files they are.
    pub library: Files,
    /// Its files that say what it computes.
    pub files: Vec<PathBuf>,
    /// The config of the model it was trained as, for the names of the classes.
    pub config: Option<Value>,
    /// What peft says it was trained for.
    pub task: Option<String>,
}

impl Adapter {
    /// The adapter in `dir`, if there is one.
    pub fn open(dir: &Path, base: Option<&Path>) -> Result<Option<Self>> {
        let path = dir.join(CONFIG);
        if !path.exists() {
            return Ok(None);
        }
        let named = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(named)?;
        let config: Value = serde_json::from_str(&text).with_context(named)?;
        let base = base.map(Path::to_owned).or_else(|| base_of(&config));
        let name = base.ok_or_else(|| {
            fault(format!("{}: no base_model_name_or_path", named()), "give --base")
        })?;
        let base = hub::model(&name).with_context(|| format!("{}: its base model", named()))?;
        let base_config = fs::read_to_string(base.join("config.json"))
            .with_context(|| format!("{}: its base model {}", named(), base.display()))?;
        let architecture = architecture(&serde_json::from_str(&base_config)?)?;
        let library = match adapterhub::is_config(&config) {
            true => Files::Adapterhub,
            false => Files::Peft,
        };
        let (plan, tensors, head) = match library {
            Files::Adapterhub => adapterhub::read(dir, &config, &*architecture)?,
            Files::Peft => {
                let plan = from_config(&config).with_context(named)?;
                (plan, read_adapter(&dir.join(WEIGHTS), &*architecture)?, None)
            }
        };
        let own = fs::read_to_string(dir.join("config.json")).ok();
        let own = own.map(|text| serde_json::from_str(&text)).transpose().with_context(named)?;
        let files = [CONFIG, WEIGHTS].iter().chain(&adapterhub::FILES).map(|name| dir.join(name));
        let files =
            files.filter(|path| path.exists() && *path != dir.join(adapterhub::HEAD_CONFIG));
        let (plan, files, own) = (Some(plan), files.collect(), own.or(head));
        let task = config["task_type"].as_str().map(str::to_owned);
        Ok(Some(Self { base, name, plan, tensors, library, files, config: own, task }))
    }

    /// Bytes of its weights on disk, the head's among them, and those of the head's alone.
    pub fn bytes(&self, architecture: &dyn Architecture) -> Result<(u64, u64)> {
        let is_weights = |file: &&PathBuf| file.extension().is_some_and(|end| end == "safetensors");
        let sizes = self.files.iter().filter(is_weights).map(|file| Ok(file.metadata()?.len()));
        let names = architecture.class_names();
        let is_head = |name: &str| {
            [names.dense, names.output].iter().any(|part| name.starts_with(&format!("{part}.")))
        };
        let head = self.tensors.iter().filter(|(name, _)| is_head(name));
        let head = head.map(|(_, t)| (t.numel() * t.kind().elt_size_in_bytes()) as u64).sum();
        Ok((sizes.sum::<Result<u64>>()?, head))
    }
}

/// A directory below `dir` with an adapter: peft puts one that is not called `default` there.
pub fn below(dir: &Path) -> Option<PathBuf> {
    let all = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    all.filter(|path| path.join(CONFIG).exists()).min()
}

/// The base model, as its path or its name on the hub.
fn base_of(config: &Value) -> Option<PathBuf> {
    let name =
        ["base_model_name_or_path", "model_name"].into_iter().find_map(|key| config[key].as_str());
    let base = PathBuf::from(name.filter(|name| !name.is_empty())?);
    let revision = config["revision"].as_str().filter(|_| !base.exists());
    Some(revision.map_or_else(|| base.clone(), |at| format!("{}@{at}", base.display()).into()))
}

fn read_adapter(path: &Path, architecture: &dyn Architecture) -> Result<BTreeMap<String, Tensor>> {
    let pickle = path.with_file_name("adapter_model.bin");
    if !path.exists() && pickle.exists() {
        return Err(no_pickle(&pickle, path));
    }
    let mut plain = BTreeMap::new();
    for (name, tensor) in super::read_tensors(path)?.0 {
        if name.split('.').any(|part| part == "original_module") {
            continue;
        }
        let cause = || format!("{}: tensor {name}: another one is the same part", path.display());
        ensure!(plain.insert(barely(&name), tensor).is_none(), cause());
    }
    let mut tensors = names::canonical(plain, architecture.prefix());
    names::only_score(&mut tensors, architecture.class_names().output);
    Ok(tensors)
}

/// A name without what peft, in one version or another, puts before and into it.
fn barely(name: &str) -> String {
    let own = [PREFIX, OUTER].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    let parts = own.unwrap_or(name).split('.');
    let own = |part: &&str| !["modules_to_save", "token_adapter", "default"].contains(part);
    parts.filter(own).collect::<Vec<_>>().join(".")
}

/// Writes what a method made of `base`: an adapter where its weights lie beside it, in the files of a library if one is
/// asked for, else the whole model.
pub fn save_trained(
    dir: &Path,
    base: (&Path, &Path),
    (method, files): (&dyn Method, Option<Files>),
    config: &Value,
    parameters: &Parameters,
) -> Result<()> {
    match about_in(files, method, parameters)? {
        Some(about) => save_adapter(dir, base, (method, about), config, parameters),
        None => save_model(dir, config, base.1, parameters),
    }
}

/// Writes what trained as an adapter to `base`, the head with it; the weights last.
fn save_adapter(
    dir: &Path,
    (name, base): (&Path, &Path),
    (method, about): (&dyn Method, About),
    config: &Value,
    parameters: &Parameters,
) -> Result<()> {
    save::write_json(&dir.join("config.json"), config)?;
    copy_tokenizer(base, dir)?;
    match about {
        About::AdapterHub(keys) => {
            let architecture = architecture(config)?;
            let name = &name.display().to_string();
            adapterhub::write(dir, name, (method, keys), &*architecture, (config, parameters))
        }
        About::Peft(keys) => {
            let prefix = if method.virtual_tokens() > 0 { OUTER } else { PREFIX };
            let keys = complete(keys, &architecture(config)?.sizes());
            save::write_json(&dir.join(CONFIG), &peft_config(name, keys, (config, parameters)))?;
            let mut tensors = method.tensors(parameters);
            tensors.extend(tied(&tensors, config, architecture(config)?.mlm_names().decoder));
            let full = |name: &str| match name.starts_with("prompt_") {
                true => name.to_owned(),
                false => format!("{prefix}{name}"),
            };
            let tensors = tensors.iter().map(|(name, tensor)| (full(name), tensor));
            write_tensors(&dir.join(WEIGHTS), tensors, ("format", "pt".into()))
        }
    }
}

/// Of a masked language model peft lists rows of the word embeddings at the decoder tied to them, too.
fn tied(tensors: &[(String, Tensor)], config: &Value, decoder: &str) -> Vec<(String, Tensor)> {
    let is_tied = config["tie_word_embeddings"] != json!(false) && is_masked_lm(config);
    let rows = tensors.iter().filter(|_| is_tied).filter_map(|(name, tensor)| {
        let (_, rest) = name.split_once(".word_embeddings.")?;
        Some((format!("{decoder}.{rest}"), tensor.copy()))
    });
    rows.collect()
}

fn is_masked_lm(config: &Value) -> bool {
    config["architectures"][0].as_str().is_some_and(|class| class.ends_with("ForMaskedLM"))
}

/// With the sizes of the model, which peft wants to know where there are virtual tokens.
fn complete(mut keys: Map<String, Value>, sizes: &Sizes) -> Map<String, Value> {
    if keys.contains_key("num_virtual_tokens") {
        let own = [("token_dim", sizes.hidden), ("num_layers", sizes.layers)];
        let own = own.into_iter().chain([("num_attention_heads", sizes.heads)]);
        keys.extend(own.map(|(key, size)| (key.to_owned(), json!(size))));
    }
    keys
}

fn peft_config(
    base: &Path,
    keys: Map<String, Value>,
    (config, parameters): (&Value, &Parameters),
) -> Value {
    let class = config["architectures"][0].as_str().unwrap_or_default();
    let mut saved = vec!["classifier", "score"];
    if parameters.trained().any(|p| !p.added && p.name.contains(".pooler.")) {
        saved.push("pooler");
    }
    let mut saved = json!(saved);
    let (mut task, mut mapping) = (json!("SEQ_CLS"), Value::Null);
    if is_masked_lm(config) {
        // peft has no such task, and what it says it saves it copies: a decoder would be untied.
        (task, saved) = (Value::Null, Value::Null);
        let kind = config["model_type"].as_str().unwrap_or_default();
        let library = format!("transformers.models.{kind}.modeling_{kind}");
        mapping = json!({"base_model_class": class, "parent_library": library});
    }
    let (name, revision) = hub::revision(base);
    let mut common = json!({
        "auto_mapping": mapping,
        "base_model_name_or_path": name,
        "inference_mode": true,
        "revision": revision,
        "task_type": task,
    });
    if keys["peft_type"] != "TRAINABLE_TOKENS" {
        common["modules_to_save"] = saved;
    }
    let mut all = keys;
    all.extend(common.as_object().cloned().unwrap_or_default());
    all.sort_keys();
    all.into()
}
