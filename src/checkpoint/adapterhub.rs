//! Adapters in AdapterHub's files: `adapter_config.json` with `adapter.safetensors`, `head_config.json` with
//! `model_head.safetensors`, as its library `adapters` 1.3 writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::load::no_pickle;
use super::{names, save, write_tensors};
use crate::flags::fault;
use crate::model::Architecture;
use crate::nn::Parameters;
use crate::peft::{Method, from_adapterhub};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter.safetensors";
const HEAD_CONFIG: &str = "head_config.json";
const HEAD_WEIGHTS: &str = "model_head.safetensors";
/// Its files, but for the config that PEFT calls the same.
pub const FILES: [&str; 3] = [WEIGHTS, HEAD_CONFIG, HEAD_WEIGHTS];
/// The version of the library whose files these are.
const VERSION: &str = "adapters.1.3.0";
/// Where adapters lie: the LayerNorm they come before, and what the library calls the place.
const PLACES: [(&str, &str); 3] = [
    (".output.LayerNorm.", ".output.adapters.NAME."),
    (".sa_layer_norm.", ".attention_adapters.adapters.NAME."),
    (".output_layer_norm.", ".output_adapters.adapters.NAME."),
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
    let plan = from_adapterhub(&about["config"]).with_context(named)?;
    let name = about["name"].as_str().with_context(|| format!("{}: no `name`", named()))?;
    let mut all = safetensors(dir, WEIGHTS, "pytorch_adapter.bin")?;
    let mut config = None;
    if dir.join(HEAD_CONFIG).exists() {
        let path = dir.join(HEAD_CONFIG);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let named = || path.display().to_string();
        let head: Value = serde_json::from_str(&text).with_context(named)?;
        let head = &head["config"];
        let layers = layers(head, architecture).with_context(named)?;
        for (tensor, value) in safetensors(dir, HEAD_WEIGHTS, "pytorch_model_head.bin")? {
            let layer = layers.iter().find_map(|(theirs, ours)| {
                let rest = tensor.strip_prefix(&format!("heads.{name}.{theirs}."))?;
                Some(format!("{ours}.{rest}"))
            });
            all.insert(layer.unwrap_or(tensor), value);
        }
        config = Some(classes(head));
    }
    let tensors = all.into_iter().map(|(tensor, value)| (ours(&tensor, name), value)).collect();
    Ok((plan, names::canonical(tensors, architecture.prefix()), config))
}

fn safetensors(dir: &Path, file: &str, pickle: &str) -> Result<BTreeMap<String, Tensor>> {
    let (path, pickle) = (dir.join(file), dir.join(pickle));
    ensure!(
        path.exists() || !pickle.exists(),
        no_pickle(&pickle, "save_adapter(…, use_safetensors=True)")
    );
    Ok(super::read_tensors(&path)?.0)
}

/// The numbers of a head's linear layers, and what they are in our model. The first of two is BERT's pooler, RoBERTa's
/// and DistilBERT's dense layer: the same maths.
fn layers(head: &Value, architecture: &dyn Architecture) -> Result<Vec<(usize, &'static str)>> {
    let names = architecture.class_names();
    let unread = |key: &str| {
        let cure = "a classification head as transformers gives this model is";
        fault(format!("a head whose `{key}` is {} is not read", head[key]), cure)
    };
    ensure!(head["head_type"] == "classification", unread("head_type"));
    ensure!(head["bias"] != json!(false), unread("bias"));
    if head["use_pooler"] == json!(true) {
        ensure!(head["layers"] == 1 && names.dense.contains("pooler"), unread("use_pooler"));
        return Ok(vec![(1, names.output)]);
    }
    ensure!(head["layers"] == 2, unread("layers"));
    ensure!(head["activation_function"] == json!(names.activation), unread("activation_function"));
    Ok(vec![(1, names.dense), (4, names.output)])
}

/// What a model's config says of the classes.
fn classes(head: &Value) -> Value {
    let pairs = head["label2id"].as_object().into_iter().flatten();
    let names: Map<_, _> = pairs.map(|(name, id)| (id.to_string(), json!(name))).collect();
    let named = (!names.is_empty()).then_some(names);
    json!({"id2label": named})
}

/// The library's name of an added tensor, and ours.
fn theirs(tensor: &str, name: &str) -> String {
    PLACES.iter().fold(tensor.to_owned(), |tensor, (ours, theirs)| {
        tensor.replace(ours, &theirs.replace("NAME", name))
    })
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
    keys: Map<String, Value>,
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
    let classes = architecture.class_names();
    let head = json!({
        "activation_function": classes.activation,
        "bias": true,
        "dropout_prob": null,
        "head_type": "classification",
        "label2id": config["label2id"],
        "layers": 2,
        "num_labels": config["label2id"].as_object().map_or(0, Map::len),
        "use_pooler": false,
    });
    save::write_json(&dir.join(HEAD_CONFIG), &outer(head))?;
    let layer = |p: &str| {
        [(classes.dense, 1), (classes.output, 4)].into_iter().find_map(|(ours, theirs)| {
            let rest = p.strip_prefix(ours)?.strip_prefix('.')?;
            Some(format!("heads.{name}.{theirs}.{rest}"))
        })
    };
    let head = parameters.iter().filter_map(|p| Some((layer(&p.name)?, &p.tensor)));
    write_tensors(&dir.join(HEAD_WEIGHTS), head, ("format", "pt".into()))?;
    let added = parameters.iter().filter(|p| p.added);
    let added = added.map(|p| (theirs(&p.name, &name), &p.tensor));
    write_tensors(&dir.join(WEIGHTS), added, ("format", "pt".into()))
}

/// The adapter's name, which may hold no dot: the directory's.
fn name_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().map(plain).collect()
}
