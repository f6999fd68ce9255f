//! Adapters as older versions of peft wrote them, or as a training script saved its state: the same numbers.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{both, run, sample, shell};
use serde_json::{Value, json};
use tapt::checkpoint::{read_tensors, write_tensors};
use tch::Tensor;

const HEAD: &str = "base_model.model.classifier.";

/// A base without a head, and an adapter with one whose every number is away from 0.
fn adapter() -> tempfile::TempDir {
    let dir = sample();
    run(
        dir.path(),
        "pretrain --from-scratch config.json --tokenizer tok --steps 2 --device cpu -q -o base train.tok
         finetune --model base --train train.tok --steps 5 --lr 1e-2 --method lora --device cpu -q -o lora",
    );
    dir
}

/// The adapter `out`: that of `lora` with its tensors renamed, left out where the new name is empty.
fn write(dir: &Path, out: &str, renamed: impl Fn(&str) -> String) {
    run(dir, &format!("rm -rf {out}; cp -r lora {out}"));
    let (tensors, _) = read_tensors(&dir.join("lora/adapter_model.safetensors")).unwrap();
    let named = tensors.iter().map(|(name, tensor)| (renamed(name), tensor));
    save(&dir.join(out), named.filter(|(name, _)| !name.is_empty()));
}

fn save<'a>(dir: &Path, tensors: impl IntoIterator<Item = (String, &'a Tensor)>) {
    let path = dir.join("adapter_model.safetensors");
    write_tensors(&path, tensors, ("format", "pt".into())).unwrap();
}

fn scores(dir: &Path, adapter: &str) -> String {
    let line = format!("evaluate {adapter} test.tok -q --device cpu 2> /dev/null");
    run(dir, &format!("{line} | grep -o '\"scores\".*\"counts\"'"))
}

fn error(dir: &Path, adapter: &str) -> String {
    let output =
        shell(dir, &format!("evaluate {adapter} test.tok -q --device cpu")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{adapter}: {}", both(&output));
    both(&output)
}

#[test]
fn every_way_to_name_a_head() {
    let dir = adapter();
    let dir = dir.path();
    let wanted = scores(dir, "lora");
    let renamings: [&dyn Fn(&str) -> String; 7] = [
        &|name| name.replace("classifier.", "classifier.modules_to_save."),
        &|name| name.replace("classifier.", "classifier.modules_to_save.default."),
        &|name| name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."),
        &|name| name.replace("base_model.model.", ""),
        &|name| name.replace("base_model.model.classifier.", "base_model.classifier."),
        &|name| name.replace("classifier.out_proj.", "score."),
        &|name| name.replace("classifier.out_proj.", "score.modules_to_save.default."),
    ];
    for renamed in renamings {
        write(dir, "old", renamed);
        assert_eq!(scores(dir, "old"), wanted, "{}", renamed(&format!("{HEAD}out_proj.weight")));
        // Loaded is what is there, whatever the config says.
        run(
            dir,
            "sed -i '/\"modules_to_save\"/,/]/c \"modules_to_save\": null,' old/adapter_config.json",
        );
        assert!(run(dir, "cat old/adapter_config.json").contains("\"modules_to_save\": null"));
        assert_eq!(scores(dir, "old"), wanted);
    }
}

#[test]
fn a_head_as_it_began_is_passed_over() {
    let dir = adapter();
    let dir = dir.path();
    let (tensors, _) = read_tensors(&dir.join("lora/adapter_model.safetensors")).unwrap();
    let began: BTreeMap<String, Tensor> = tensors
        .iter()
        .filter(|(name, _)| name.starts_with(HEAD))
        .map(|(name, tensor)| {
            (name.replace(HEAD, &format!("{HEAD}original_module.")), tensor.ones_like())
        })
        .collect();
    let all = || tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
    run(dir, "cp -r lora state; cp -r lora twice");
    save(&dir.join("state"), all().chain(began.iter().map(|(name, t)| (name.clone(), t))));
    assert_eq!(scores(dir, "state"), scores(dir, "lora"));

    let again = format!("{HEAD}modules_to_save.default.out_proj.bias");
    let one = began.values().next().unwrap();
    save(&dir.join("twice"), all().chain([(again.clone(), one)]));
    assert!(error(dir, "twice").contains("another one is the same part"));
}

#[test]
fn a_score_without_a_bias_has_none() {
    let dir = adapter();
    let dir = dir.path();
    let (mut tensors, _) = read_tensors(&dir.join("lora/adapter_model.safetensors")).unwrap();
    let _ = tensors.get_mut(&format!("{HEAD}out_proj.bias")).unwrap().zero_();
    save(&dir.join("lora"), tensors.iter().map(|(name, tensor)| (name.clone(), tensor)));
    write(dir, "old", |name| match name.strip_prefix(HEAD) {
        Some("out_proj.weight") => "base_model.model.score.weight".into(),
        Some("out_proj.bias") => String::new(),
        _ => name.into(),
    });
    assert_eq!(scores(dir, "old"), scores(dir, "lora"));
}

#[test]
fn what_is_missing_is_named() {
    let dir = adapter();
    let dir = dir.path();
    let without = |part: &'static str| {
        move |name: &str| if name.contains(part) { String::new() } else { name.to_owned() }
    };
    write(dir, "old", without("classifier"));
    assert!(error(dir, "old").contains("neither it nor its base has a classifier\nhint: "));
    assert!(run(dir, "embed old test.tok --device cpu -q | wc -l").trim() == "100");
    write(dir, "old", without("classifier.dense.weight"));
    assert!(error(dir, "old").contains("it has no classifier: tensor classifier.dense.weight is"));
    write(dir, "old", without("1.attention.self.value.lora_B"));
    let why = error(dir, "old");
    assert!(
        why.contains("value.lora_B.weight is missing (1 in all)\nhint: the adapter's"),
        "{why}"
    );
    run(dir, "sed -i 's/SEQ_CLS/TOKEN_CLS/' lora/adapter_config.json");
    assert!(error(dir, "lora").contains("TOKEN_CLS"));
    run(dir, "mkdir outer; mv lora outer/mine");
    assert!(error(dir, "outer").contains("hint: outer/mine is an adapter"));
}

/// PEFT writes no config of the classifier: the classes have the base's names where these can be theirs.
#[test]
fn classes_without_a_config() {
    let dir = adapter();
    let dir = dir.path();
    run(dir, "rm lora/config.json");
    let label = || {
        let line = run(dir, "echo rain | predict lora -q --device cpu");
        line.split('"').nth(3).unwrap().to_owned()
    };
    let named = |names: Value| {
        let path = dir.join("base/config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["id2label"] = names;
        fs::write(path, config.to_string()).unwrap();
    };
    assert!(label().starts_with("LABEL_"), "{}", label());
    named(json!({"0": "a", "1": "b"}));
    assert!(label().starts_with("LABEL_"), "{}", label());
    named(json!({"0": "w", "1": "x", "2": "y", "3": "z"}));
    assert!(["w", "x", "y", "z"].contains(&&label()[..]), "{}", label());
}
