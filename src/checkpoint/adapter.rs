//! Adapters in PEFT's files: `adapter_config.json`, `adapter_model.safetensors`, its names and keys; or in AdapterHub's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::load::{SAFE, no_pickle};
use super::{adapterhub, copy_tokenizer, names, save, write_tensors};
use crate::flags::fault;
use crate::hub;
use crate::model::architecture;
use crate::nn::Parameters;
use crate::peft::{About, Method, from_config};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// An adapter as it lies in its directory.
#[derive(Debug)]
pub struct Adapter {
    pub base: PathBuf,
    pub plan: Box<dyn Method>,
    /// Under the names the model builds them by.
    pub tensors: BTreeMap<String, Tensor>,
    /// The config of the model it was trained as, for the names of the classes.
    pub config: Option<Value>,
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
        let base = base.ok_or_else(|| {
            fault(format!("{}: no base_model_name_or_path", named()), "give --base")
        })?;
        let base = hub::model(&base).with_context(|| format!("{}: its base model", named()))?;
        let base_config = fs::read_to_string(base.join("config.json"))
            .with_context(|| format!("{}: its base model {}", named(), base.display()))?;
        let architecture = architecture(&serde_json::from_str(&base_config)?)?;
        let (plan, tensors, head) = match adapterhub::is_config(&config) {
            true => adapterhub::read(dir, &config, &*architecture)?,
            false => {
                let plan = from_config(&config).with_context(named)?;
                (plan, read_adapter(&dir.join(WEIGHTS), architecture.prefix())?, None)
            }
        };
        let own = fs::read_to_string(dir.join("config.json")).ok();
        let own = own.map(|text| serde_json::from_str(&text)).transpose().with_context(named)?;
        Ok(Some(Self { base, plan, tensors, config: own.or(head) }))
    }
}

/// The base model, as its path or its name on the hub.
fn base_of(config: &Value) -> Option<PathBuf> {
    let name =
        ["base_model_name_or_path", "model_name"].into_iter().find_map(|key| config[key].as_str());
    let base = PathBuf::from(name?);
    let revision = config["revision"].as_str().filter(|_| !base.exists());
    Some(revision.map_or_else(|| base.clone(), |at| format!("{}@{at}", base.display()).into()))
}

fn read_adapter(path: &Path, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
    let pickle = path.with_file_name("adapter_model.bin");
    if !path.exists() && pickle.exists() {
        return Err(no_pickle(&pickle, SAFE));
    }
    let (tensors, _) = super::read_tensors(path)?;
    let strip =
        |name: String| name.strip_prefix(PREFIX).unwrap_or(&name).replace(".modules_to_save.", ".");
    let plain = tensors.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect();
    Ok(names::canonical(plain, prefix))
}

/// Writes what trained as an adapter to `base`, the head with it; the weights last.
pub fn save_adapter(
    dir: &Path,
    (name, base): (&Path, &Path),
    (method, about): (&dyn Method, About),
    config: &Value,
    parameters: &Parameters,
) -> Result<()> {
    save::remove(dir, &["model.safetensors", WEIGHTS])?;
    save::remove(dir, &adapterhub::FILES)?;
    save::write_json(&dir.join("config.json"), config)?;
    copy_tokenizer(base, dir)?;
    match about {
        About::AdapterHub(keys) => {
            let architecture = architecture(config)?;
            let name = &name.display().to_string();
            adapterhub::write(dir, name, keys, &*architecture, (config, parameters))
        }
        About::Peft(keys) => {
            save::write_json(&dir.join(CONFIG), &peft_config(name, keys, parameters))?;
            let tensors = method.tensors(parameters);
            let tensors = tensors.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor));
            write_tensors(&dir.join(WEIGHTS), tensors, ("format", "pt".into()))
        }
    }
}

fn peft_config(base: &Path, keys: Map<String, Value>, parameters: &Parameters) -> Value {
    let mut saved = vec!["classifier", "score"];
    if parameters.trained().any(|p| !p.added && p.name.contains(".pooler.")) {
        saved.push("pooler");
    }
    let (name, revision) = hub::revision(base);
    let common = json!({
        "auto_mapping": null,
        "base_model_name_or_path": name,
        "inference_mode": true,
        "modules_to_save": saved,
        "revision": revision,
        "task_type": "SEQ_CLS",
    });
    let mut all = keys;
    all.extend(common.as_object().cloned().unwrap_or_default());
    all.sort_keys();
    all.into()
}
