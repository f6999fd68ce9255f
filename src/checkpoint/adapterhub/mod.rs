//! Adapters in AdapterHub's files: `adapter_config.json` with `adapter.safetensors`, `head_config.json` with
//! `model_head.safetensors`, as its library `adapters` 1.3 writes them.

mod head;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::weights::no_pickle;
use super::{checked, names, save, write_tensors};
use crate::model::Architecture;
use crate::nn::{Parameter, Parameters};
use crate::peft::{EMBEDDINGS, Method, from_adapterhub};
use head::Head;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter.safetensors";
pub const HEAD_CONFIG: &str = "head_config.json";
const HEAD_WEIGHTS: &str = "model_head.safetensors";
/// Its files, but for the config that PEFT calls the same.
pub const FILES: [&str; 3] = [WEIGHTS, HEAD_CONFIG, HEAD_WEIGHTS];
/// The version of the library whose files these are.
const VERSION: &str = "adapters.1.3.0";
/// Our names and the library's: bottlenecks by the LayerNorm they come before, LoRA and IA3, prefixes.
const PLACES: [(&str, &str); 7] = [
    (".output.LayerNorm.", ".output.adapters.NAME."),
    (".sa_layer_norm.", ".attention_adapters.adapters.NAME."),
    (".output_layer_norm.", ".output_adapters.adapters.NAME."),
    (".lora_A.weight", ".loras.NAME.lora_A"),
    (".lora_B.weight", ".loras.NAME.lora_B"),
    (".ia3_l", ".loras.NAME.lora_B"),
    (EMBEDDINGS, "distilbert.prefix_tuning.prefix_tunings.NAME.self.control_trans"),
];

/// An adapter as read: the plan, its tensors and the head's under our names, a config with the names of the classes.
pub type Parts = (Box<dyn Method>, BTreeMap<String, Tensor>, Option<Value>);

/// Whether this is the library's config, not PEFT's.
pub fn is_config(config: &Value) -> bool {
    config.get("peft_type").is_none() && config["config"].is_object()
}

/// Reads the adapter in `dir`, whose config is `about`, for a model of this architecture.
pub fn read(dir: &Path, about: &Value, architecture: &dyn Architecture) -> Result<Parts> {
    let named = || dir.join(CONFIG).display().to_string();
    let layers = architecture.sizes().layers as usize;
    let plan = from_adapterhub(&about["config"], layers).with_context(named)?;
    let name = about["name"].as_str().with_context(|| format!("{}: no `name`", named()))?;
    let mut all = safetensors(dir, WEIGHTS, "pytorch_adapter.bin")?;
    let mut config = None;
    if dir.join(HEAD_CONFIG).exists() {
        let path = dir.join(HEAD_CONFIG);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let named = || path.display().to_string();
        let head: Value = serde_json::from_str(&text).with_context(named)?;
        let form = Head::read(&head["config"], architecture).with_context(named)?;
        for (tensor, value) in safetensors(dir, HEAD_WEIGHTS, "pytorch_model_head.bin")? {
            let own = tensor.strip_prefix(&format!("heads.{name}.")).and_then(|t| form.ours(t));
            all.insert(own.unwrap_or(tensor), value);
        }
        config = Some(head::classes(&head["config"]));
    }
    // A prefix is one vector there, and in each layer's place again.
    all.retain(|tensor, _| !tensor.contains(".prefix_tuning.pool."));
    let square = |tensor: Tensor| match plan.virtual_tokens() {
        0 => tensor,
        tokens if tensor.dim() == 1 && tensor.size()[0] % tokens == 0 => tensor.view([tokens, -1]),
        _ => tensor,
    };
    let scales = about["config"]["composition_mode"] == "scale";
    let own = |(tensor, value): (String, Tensor)| {
        let tensor = ours(&tensor, name);
        let tensor = if scales { tensor.replace(".lora_B.weight", ".ia3_l") } else { tensor };
        let value = if tensor == EMBEDDINGS { square(value) } else { value };
        (tensor, value)
    };
    let tensors = all.into_iter().map(own).collect();
    Ok((plan, names::canonical(tensors, architecture.prefix()), config))
}

fn safetensors(dir: &Path, file: &str, pickle: &str) -> Result<BTreeMap<String, Tensor>> {
    let (path, pickle) = (dir.join(file), dir.join(pickle));
    ensure!(path.exists() || !pickle.exists(), no_pickle(&pickle, &path));
    Ok(super::read_tensors(&path)?.0)
}

/// The library's name of an added tensor, if it is one that an adapter holds.
fn theirs(tensor: &str, name: &str) -> Option<String> {
    let (ours, theirs) = PLACES.iter().find(|(ours, _)| tensor.contains(ours))?;
    Some(tensor.replace(ours, &theirs.replace("NAME", name)))
}

fn ours(tensor: &str, name: &str) -> String {
    PLACES.iter().fold(tensor.to_owned(), |tensor, (ours, theirs)| {
        tensor.replace(&theirs.replace("NAME", name), ours)
    })
}

/// Writes the adapter and the head; `keys` are the method's, `base` is the model's name.
pub fn write(
    dir: &Path,
    base: &str,
    (method, keys): (&dyn Method, Map<String, Value>),
    architecture: &dyn Architecture,
    (config, parameters): (&Value, &Parameters),
) -> Result<()> {
    let name = name_of(dir);
    let outer = |class: Value| {
        json!({
            "config": class,
            "hidden_size": architecture.sizes().hidden,
            "model_class": format!("{}AdapterModel", architecture.class()),
            "model_name": base,
            "model_type": config["model_type"],
            "name": name,
            "version": VERSION,
        })
    };
    save::write_json(&dir.join(CONFIG), &outer(keys.into()))?;
    let head = Head::of(config, architecture);
    save::write_json(&dir.join(HEAD_CONFIG), &outer(head.config(config, architecture)))?;
    let own = |p: &Parameter| {
        Some((format!("heads.{name}.{}", head.theirs(&p.name)?), p.tensor.shallow_clone()))
    };
    let tensors: Vec<_> = parameters.iter().filter_map(own).collect();
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
    write_tensors(&dir.join(HEAD_WEIGHTS), tensors, ("format", "pt".into()))?;
    let added = method.tensors(parameters);
    let added =
        added.iter().filter_map(|(ours, tensor)| Some((theirs(ours, &name)?, flat(ours, tensor))));
    let added: Vec<_> = added.collect();
    let added = added.iter().map(|(name, tensor)| (name.clone(), tensor));
    write_tensors(&dir.join(WEIGHTS), added, ("format", "pt".into()))
}

/// A prefix as one vector; other tensors as they are.
fn flat(ours: &str, tensor: &Tensor) -> Tensor {
    if ours == EMBEDDINGS { tensor.reshape([-1]) } else { tensor.shallow_clone() }
}

/// Words that torch's containers, which an adapter's name becomes an attribute of, have for something else.
const TAKEN: [&str; 33] = [
    "apply",
    "bfloat16",
    "buffers",
    "children",
    "clear",
    "compile",
    "copy",
    "cpu",
    "cuda",
    "double",
    "eval",
    "float",
    "forward",
    "fromkeys",
    "get",
    "half",
    "ipu",
    "items",
    "keys",
    "modules",
    "mtia",
    "parameters",
    "pop",
    "popitem",
    "setdefault",
    "to",
    "train",
    "training",
    "type",
    "update",
    "values",
    "xpu",
    "zero_grad",
];

/// The adapter's name, which may hold no dot: the directory's.
fn name_of(dir: &Path) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = checked::name_of(dir).chars().map(plain).collect();
    if TAKEN.contains(&&name[..]) { name + "_" } else { name }
}
