//! What every way to train must do: overfit one batch, and give one result however a step is split.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{run, sample};
use serde_json::Value;

fn log(dir: &Path, out: &str) -> Vec<String> {
    let log = fs::read_to_string(dir.join(out).join("log.jsonl")).unwrap();
    log.lines().map(String::from).collect()
}

fn last(dir: &Path, out: &str, key: &str) -> f64 {
    let log = log(dir, out);
    let events: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    events.iter().rev().find_map(|event| event[key].as_f64()).unwrap()
}

#[test]
fn every_method_overfits_one_batch() {
    let dir = sample();
    let dir = dir.path();
    // Larger weights: what a frozen encoder of tiny ones says of two texts hardly differs.
    run(
        dir,
        r#"sed -i 's/{/{"initializer_range": 0.2, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, /' config.json"#,
    );
    run(dir, "prep sample --split train --limit 8 --tokenizer tok -q -o eight.tok");
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 20 --device cpu -q -o base train.tok",
    );
    for method in ["full", "head", "lora"] {
        let command = format!(
            "finetune --model base --train eight.tok --method {method} --targets all --lr 1e-2 --schedule constant \
             --steps 400 --batch 8 --device cpu -q -o {method}"
        );
        run(dir, &command);
        let loss = last(dir, method, "loss");
        assert!(loss < 0.05, "{method} ends at a loss of {loss}");
    }
}

/// The sum of gradients over micro-batches is that of the batch; only rounding differs.
#[test]
fn micro_batches_change_no_result() {
    let dir = sample();
    let dir = dir.path();
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["hidden_dropout_prob"] = 0.into();
    config["attention_probs_dropout_prob"] = 0.into();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let common = "--from-scratch config.json --tokenizer tok --steps 6 --batch 16 --log-every 6 --device cpu -q";
    run(dir, &format!("pretrain {common} -o whole train.tok"));
    run(dir, &format!("pretrain {common} --micro-tokens 64 -o split train.tok"));
    let (whole, split) = (last(dir, "whole", "loss"), last(dir, "split", "loss"));
    assert!((whole - split).abs() < 1e-4, "{whole} and {split}");
    let (whole, split) = (last(dir, "whole", "grad_norm"), last(dir, "split", "grad_norm"));
    assert!((whole - split).abs() < 1e-3 * whole, "{whole} and {split}");
}

/// An untouched adapter is the base: LoRA's B starts at zero.
#[test]
fn lora_starts_as_the_base() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 5 --device cpu -q -o base train.tok",
    );
    for method in ["lora", "head"] {
        run(
            dir,
            &format!(
                "finetune --model base --train train.tok --method {method} --lr 0 --steps 1 --device cpu -q -o {method}"
            ),
        );
        run(
            dir,
            &format!(
                "evaluate {method} test.tok --device cpu -q -p {method}.jsonl > {method}.json"
            ),
        );
    }
    let predictions = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(predictions("lora.jsonl"), predictions("head.jsonl"));
}

/// Every key of every line of the log, in docs/formats.md, in the row of its event.
#[test]
fn the_log_is_as_documented() {
    let dir = sample();
    let dir = dir.path();
    let often = "--steps 2 --log-every 1 --save-every 1 --device cpu -q";
    run(
        dir,
        &format!(
            "mask validation.tok > eval.bin
             pretrain --from-scratch config.json --tokenizer tok --eval eval.bin {often} -o base train.tok
             finetune --model base --train train.tok --eval validation.tok {often} -o fine"
        ),
    );
    let formats = fs::read_to_string(common::root().join("docs/formats.md")).unwrap();
    let (_, section) = formats.split_once("\n## Log\n").unwrap();
    for line in ["base", "fine"].map(|out| log(dir, out)).concat() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let name = event["event"].as_str().unwrap();
        let row = section.lines().find(|row| row.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/formats.md has no event {name}"));
        for key in event.as_object().unwrap().keys().filter(|key| *key != "event") {
            assert!(row.contains(&format!("`{key}`")), "docs/formats.md: {name} lacks {key}");
        }
    }
}
