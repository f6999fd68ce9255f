//! Adapters in PEFT's files: `adapter_config.json`, `adapter_model.safetensors`, its names and keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::Tensor;

use super::load::no_pickle;
use super::{copy_tokenizer, names, save, write_tensors};
use crate::flags::fault;
use crate::hub;
use crate::model::architecture;
use crate::nn::{Parameters, Peft};
use crate::peft::{Lora, LoraConfig};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// An adapter as it lies in its directory.
#[derive(Debug)]
pub struct Adapter {
    pub base: PathBuf,
    pub plan: Box<dyn Peft>,
    /// Under the names the model builds them by.
    pub tensors: BTreeMap<String, Tensor>,
    /// The config of the model it was trained as, for the names of the classes.
    pub config: Option<Value>,
}

/// The keys of `adapter_config.json` that change what is computed.
#[derive(Debug, Deserialize)]
struct Config {
    peft_type: String,
    base_model_name_or_path: Option<PathBuf>,
    revision: Option<String>,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Vec<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
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
        let config: Config = serde_json::from_str(&text).with_context(named)?;
        config.check().with_context(named)?;
        let base = base.map(Path::to_owned).or(config.base());
        let base = base.ok_or_else(|| {
            fault(format!("{}: no base_model_name_or_path", named()), "give --base")
        })?;
        let base = hub::model(&base).with_context(|| format!("{}: its base model", named()))?;
        let lora = LoraConfig {
            rank: config.r,
            alpha: config.lora_alpha,
            dropout: config.lora_dropout,
            targets: config.target_modules,
        };
        let base_config = fs::read_to_string(base.join("config.json"))
            .with_context(|| format!("{}: its base model {}", named(), base.display()))?;
        let prefix = architecture(&serde_json::from_str(&base_config)?)?.prefix();
        let own = fs::read_to_string(dir.join("config.json")).ok();
        Ok(Some(Self {
            plan: Box::new(Lora::new(lora)?),
            tensors: read_adapter(&dir.join(WEIGHTS), prefix)?,
            config: own.map(|text| serde_json::from_str(&text)).transpose().with_context(named)?,
            base,
        }))
    }
}

impl Config {
    /// The base model, as its path or its name on the hub.
    fn base(&self) -> Option<PathBuf> {
        let base = self.base_model_name_or_path.as_ref()?;
        let at = |revision: &String| PathBuf::from(format!("{}@{revision}", base.display()));
        let revision = self.revision.as_ref().filter(|_| !base.exists());
        Some(revision.map_or_else(|| base.clone(), at))
    }

    fn check(&self) -> Result<()> {
        let kind = &self.peft_type;
        ensure!(kind == "LORA", "peft_type {kind:?} is not read yet; LORA is");
        for key in ["use_dora", "use_rslora", "fan_in_fan_out", "lora_bias"] {
            let on = self.rest.get(key).and_then(Value::as_bool).unwrap_or(false);
            ensure!(!on, "`{key}` is not read yet");
        }
        for key in ["rank_pattern", "alpha_pattern"] {
            let used = self.rest.get(key).and_then(Value::as_object).is_some_and(|m| !m.is_empty());
            ensure!(!used, "`{key}` is not read yet");
        }
        let bias = self.rest.get("bias").and_then(Value::as_str).unwrap_or("none");
        ensure!(bias == "none", "`bias` {bias:?} is not read yet");
        Ok(())
    }
}

fn read_adapter(path: &Path, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
    let pickle = path.with_file_name("adapter_model.bin");
    if !path.exists() && pickle.exists() {
        return Err(no_pickle(&pickle));
    }
    let (tensors, _) = super::read_tensors(path)?;
    let strip =
        |name: String| name.strip_prefix(PREFIX).unwrap_or(&name).replace(".modules_to_save.", ".");
    let plain = tensors.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect();
    Ok(names::canonical(plain, prefix))
}

/// The targets by the ends of their names, as peft has them; in full where an end would also say another layer.
fn targets(lora: &LoraConfig, parameters: &Parameters) -> Vec<String> {
    let weight = |name: &str| name.strip_suffix(".lora_A.weight").map(str::to_owned);
    let adapted: Vec<String> = parameters.iter().filter_map(|p| weight(&p.name)).collect();
    let is_end = |path: &str, end: &String| {
        path.strip_suffix(end.as_str()).is_some_and(|front| front.ends_with('.'))
    };
    let ends = lora.modules();
    let layers = parameters.iter().filter_map(|p| p.name.strip_suffix(".weight"));
    let said =
        layers.filter(|path| !path.contains(".lora_") && ends.iter().any(|end| is_end(path, end)));
    if said.count() == adapted.len() { ends } else { adapted }
}

/// Writes what trained as an adapter to `base`, the head with it; the weights last.
pub fn save_adapter(
    dir: &Path,
    (name, base): (&Path, &Path),
    lora: &LoraConfig,
    config: &Value,
    parameters: &Parameters,
) -> Result<()> {
    let heads: Vec<_> =
        parameters.trained().filter(|p| !p.added).map(|p| p.name.as_str()).collect();
    let mut saved = vec!["classifier", "score"];
    if heads.iter().any(|name| name.contains(".pooler.")) {
        saved.push("pooler");
    }
    let (name, revision) = hub::revision(name);
    let about = json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": saved,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "revision": revision,
        "target_modules": targets(lora, parameters),
        "task_type": "SEQ_CLS",
    });
    save::remove(dir, &["model.safetensors"])?;
    save::write_json(&dir.join(CONFIG), &about)?;
    save::write_json(&dir.join("config.json"), config)?;
    copy_tokenizer(base, dir)?;
    let tensors = parameters.trained().map(|p| (format!("{PREFIX}{}", p.name), &p.tensor));
    write_tensors(&dir.join(WEIGHTS), tensors, ("format", "pt".into()))
}
