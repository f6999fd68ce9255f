//! Whose files an adapter lies in, and LoRA and IA3 from one library's to the other's, where both compute the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{About, Method, no_more, off, unread};
use crate::flags::fault;
use crate::nn::Parameters;

/// The library whose files an adapter lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Files {
    Peft,
    Adapterhub,
}

/// What the library that is asked for says of what `method` trained; without one, the method's own does.
pub fn about_in(
    files: Option<Files>,
    method: &dyn Method,
    parameters: &Parameters,
) -> Result<Option<About>> {
    let Some(about) = method.about(parameters) else {
        let cure = "methods that train weights of the model itself write a whole checkpoint";
        ensure!(files.is_none(), fault("--adapter-files: there is no adapter to write", cure));
        return Ok(None);
    };
    Ok(Some(match (files, about) {
        (Some(Files::Adapterhub), About::Peft(keys)) => {
            About::AdapterHub(to_adapterhub(&keys.into(), parameters)?)
        }
        (Some(Files::Peft), About::AdapterHub(_)) => {
            bail!(fault("peft has no files for this adapter", "AdapterHub's it has"))
        }
        (_, about) => about,
    }))
}

/// The linear layers that AdapterHub's library may change: what its config calls them, and the ends of their names.
const KINDS: [(&str, [&str; 2]); 5] = [
    ("q", [".query", ".q_lin"]),
    ("k", [".key", ".k_lin"]),
    ("v", [".value", ".v_lin"]),
    ("intermediate", [".intermediate.dense", ".lin1"]),
    ("output", [".output.dense", ".lin2"]),
];
const CURE: &str = "PEFT's files have it, which is what --method writes unless told otherwise";

fn kind(path: &str) -> Result<&'static str> {
    let found = KINDS.iter().find(|(_, ends)| ends.iter().any(|end| path.ends_with(end)));
    let found = found.filter(|_| !path.ends_with(".attention.output.dense"));
    let none = || fault(format!("AdapterHub's files have no place for {path}"), CURE);
    found.map(|(kind, _)| *kind).ok_or_else(none)
}

/// AdapterHub's `config` from PEFT's keys, for what was added to a model.
fn to_adapterhub(keys: &Value, parameters: &Parameters) -> Result<Map<String, Value>> {
    let scales = keys["peft_type"] == "IA3";
    let no_files =
        || fault(format!("AdapterHub's files are not written for {}", keys["peft_type"]), CURE);
    ensure!(scales || keys["peft_type"] == "LORA", no_files());
    for key in ["rank_pattern", "alpha_pattern", "trainable_token_indices", "feedforward_modules"] {
        let cause = || fault(format!("AdapterHub's files have no `{key}`: {}", keys[key]), CURE);
        ensure!(off(keys, &[key]).is_ok(), cause());
    }
    let dora = "the DoRA of AdapterHub's library scales biases, too: it computes something else";
    ensure!(keys["use_dora"] != true, fault(dora, CURE));
    let (kinds, left_out) = places(parameters, if scales { ".ia3_l" } else { ".lora_A.weight" })?;
    let has = |kind: &str| kinds.contains(kind);
    let attention: Vec<&str> = ["q", "k", "v"].into_iter().filter(|kind| has(kind)).collect();
    // alpha / sqrt(rank) is another alpha by the rank.
    let (rank, alpha) = (keys["r"].as_f64().unwrap_or(1.0), keys["lora_alpha"].as_f64());
    let by_root = keys["use_rslora"] == true;
    let alpha = alpha.unwrap_or(1.0) * if by_root { rank.sqrt() } else { 1.0 };
    let config = json!({
        "alpha": alpha,
        "architecture": "lora",
        "attn_matrices": attention,
        "composition_mode": if scales { "scale" } else { "add" },
        "dropout": keys["lora_dropout"].as_f64().unwrap_or(0.0),
        "dtype": null,
        "init_weights": if scales { "ia3" } else { "lora" },
        "init_weights_seed": null,
        "intermediate_lora": has("intermediate"),
        "leave_out": left_out,
        "output_lora": has("output"),
        "r": rank as i64,
        "selfattn_lora": !attention.is_empty(),
        "use_dora": false,
        "use_gating": false,
        "vera_b": null,
        "vera_d": null,
    });
    Ok(config.as_object().cloned().unwrap_or_default())
}

/// The kinds of layers that have a parameter of this ending, in every layer the same, and the layers that have none.
fn places(parameters: &Parameters, end: &str) -> Result<(BTreeSet<&'static str>, Vec<u64>)> {
    let mut layers: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for parameter in parameters.iter() {
        let name = &parameter.name;
        let Some(layer) = name.split('.').find_map(|part| part.parse().ok()) else { continue };
        let kinds = layers.entry(layer).or_default();
        if let Some(path) = name.strip_suffix(end) {
            kinds.insert(kind(path)?);
        }
    }
    let all: BTreeSet<_> = layers.values().flatten().copied().collect();
    let uneven = || fault("AdapterHub's files change the same in every layer they change", CURE);
    ensure!(layers.values().all(|kinds| kinds.is_empty() || *kinds == all), uneven());
    let left_out = layers.iter().filter(|(_, kinds)| kinds.is_empty()).map(|(layer, _)| *layer);
    Ok((all, left_out.collect()))
}

/// The `config` with adapters' defaults where it says nothing.
fn with_defaults(config: &Value) -> Value {
    let mut all = json!({
        "alpha": 8,
        "attn_matrices": ["q", "v"],
        "composition_mode": "add",
        "dropout": 0.0,
        "r": 8,
        "selfattn_lora": true,
    });
    if let (Some(all), Some(said)) = (all.as_object_mut(), config.as_object()) {
        all.extend(said.clone());
    }
    all
}

/// Keys of AdapterHub's config that are read, and behind them those that change nothing of what is computed.
const KEYS: [&str; 13] = [
    "alpha",
    "architecture",
    "attn_matrices",
    "composition_mode",
    "dropout",
    "dtype",
    "intermediate_lora",
    "leave_out",
    "output_lora",
    "r",
    "selfattn_lora",
    "init_weights",
    "init_weights_seed",
];

/// PEFT's keys from the `config` of AdapterHub's LoRA or IA3, for an encoder of so many layers.
pub fn from_adapterhub(config: &Value, count: usize) -> Result<Value> {
    let config = &with_defaults(config);
    no_more(config, &KEYS)?;
    ensure!(
        config["dtype"].is_null() || config["dtype"] == "float32",
        unread("dtype", &config["dtype"])
    );
    let mode = &config["composition_mode"];
    ensure!(mode == "add" || mode == "scale", unread("composition_mode", mode));
    let asks = |kind: &str| match kind {
        "intermediate" | "output" => config[format!("{kind}_lora")] == true,
        of => {
            let matrices = config["attn_matrices"].as_array();
            config["selfattn_lora"] == true && matrices.is_some_and(|all| all.contains(&json!(of)))
        }
    };
    let ends = KINDS.iter().filter(|(kind, _)| asks(kind)).flat_map(|(kind, ends)| {
        // Attention's own `output.dense` has no number before it.
        let before = if *kind == "output" { r".*(?:\.\d+|\.ffn)" } else { ".*" };
        ends.map(|end| format!("{before}{}", end.replace('.', r"\.")))
    });
    let targets = ends.collect::<Vec<_>>().join("|");
    let left_out = super::layers(config, "leave_out")?;
    let kept: Vec<u64> = (0..count as u64).filter(|layer| !left_out.contains(layer)).collect();
    let common = json!({"target_modules": targets, "layers_to_transform": kept});
    let own = match mode == "add" {
        true => json!({
            "peft_type": "LORA",
            "r": config["r"],
            "lora_alpha": config["alpha"],
            "lora_dropout": config["dropout"],
        }),
        false => {
            ensure!(config["alpha"].as_f64() == Some(1.0), unread("alpha", &config["alpha"]));
            off(config, &["dropout"])?;
            json!({"peft_type": "IA3"})
        }
    };
    let mut keys = common;
    if let (Some(keys), Value::Object(own)) = (keys.as_object_mut(), own) {
        keys.extend(own);
    }
    Ok(keys)
}
