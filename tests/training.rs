//! What every way to train must do: overfit one batch, and give one result however a step is split.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{both, run, sample, shell};
use serde_json::Value;
use tapt::checkpoint::{read_tensors, write_tensors};
use tapt::shard::Shard;

fn log(dir: &Path, out: &str) -> Vec<String> {
    let log = fs::read_to_string(dir.join(out).join("log.jsonl")).unwrap();
    log.lines().map(String::from).collect()
}

fn last(dir: &Path, out: &str, key: &str) -> f64 {
    let log = log(dir, out);
    let events: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    events.iter().rev().find_map(|event| event[key].as_f64()).unwrap()
}

const METHODS: [&str; 12] = [
    "full",
    "head",
    "top",
    "bitfit",
    "lora",
    "rslora",
    "dora",
    "ia3",
    "adapter",
    "adapter --adapter-kind double",
    "adapter --adapter-kind parallel",
    "tokens --tokens 5-200",
];

/// What these add is attended to from the first step: they do not start as the base.
const BEFORE: [&str; 3] = ["prompt", "prefix", "prefix --prefix-projection 16"];

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
        "pretrain --from-scratch config.json --tokenizer tok --steps 20 --device cpu --dtype f32 -q -o base train.tok",
    );
    for method in METHODS.into_iter().chain(BEFORE) {
        let command = format!(
            "finetune --model base --train eight.tok --method {method} --targets all --lr 1e-2 --schedule constant \
             --steps 400 --batch 8 --device cpu --dtype f32 -q -o out"
        );
        run(dir, &command);
        let loss = last(dir, "out", "loss");
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
    let common = "--from-scratch config.json --tokenizer tok --steps 6 --batch 16 --log-every 6 --device cpu --dtype f32 -q";
    run(dir, &format!("pretrain {common} -o whole train.tok"));
    run(dir, &format!("pretrain {common} --micro-tokens 64 -o split train.tok"));
    let (whole, split) = (last(dir, "whole", "loss"), last(dir, "split", "loss"));
    assert!((whole - split).abs() < 1e-4, "{whole} and {split}");
    let (whole, split) = (last(dir, "whole", "grad_norm"), last(dir, "split", "grad_norm"));
    assert!((whole - split).abs() < 1e-3 * whole, "{whole} and {split}");
}

/// Layers that are computed again draw the dropout that they drew: every weight is the same, to the bit.
#[test]
fn activation_checkpointing_changes_no_bit() {
    let dir = sample();
    let dir = dir.path();
    let saved = |command: &str| {
        let flags = "--steps 5 --batch 16 --micro-tokens 256 --device cpu -q";
        run(dir, &format!("rm -rf out; {command} {flags} -o out"));
        run(dir, "cat out/*.safetensors | sha256sum")
    };
    let same = |command: &str| {
        let kept = saved(command);
        let again = saved(&format!("{command} --activation-checkpointing"));
        assert_eq!(kept, again, "{command}");
        assert!(last(dir, "out", "grad_norm") > 0.0, "{command}: nothing was learnt");
    };
    for dtype in ["f32", "bf16"] {
        same(&format!(
            "pretrain --from-scratch config.json --tokenizer tok --dtype {dtype} train.tok"
        ));
    }
    run(dir, "mv out base");
    for method in METHODS.into_iter().chain(BEFORE) {
        for dtype in ["f32", "bf16"] {
            // Its layers share weights, whose gradients in bf16 are added up in another order.
            if (method, dtype) == (BEFORE[2], "bf16") {
                continue;
            }
            same(&format!(
                "finetune --model base --train train.tok --method {method} --targets all --dtype {dtype}"
            ));
        }
    }
}

/// Before its first step every method is the base under a new head: what it adds changes nothing yet.
#[test]
fn every_method_starts_as_the_base() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 5 --device cpu --dtype f32 -q -o base train.tok",
    );
    let starts = ["pissa", "olora", "gaussian"].map(|init| format!("lora --init {init}"));
    for method in METHODS.map(str::to_owned).iter().chain(&starts) {
        let flags =
            format!("--method {method} --targets all --lr 0 --steps 1 --device cpu --dtype f32 -q");
        run(dir, &format!("finetune --model base --train train.tok {flags} -o out"));
        let scored = run(
            dir,
            "evaluate out test.tok --device cpu --dtype f32 -q -p out.jsonl; cat out.jsonl",
        );
        let known = dir.join("full.jsonl");
        if !known.exists() {
            fs::rename(dir.join("out.jsonl"), known).unwrap();
            continue;
        }
        close(method, &probabilities(&scored), &probabilities(&run(dir, "cat full.jsonl")));
    }
}

/// In bf16 every method learns what it learns in f32, to the rounding of bf16.
#[test]
fn every_method_learns_in_bf16() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 20 --device cpu --dtype f32 -q -o base train.tok",
    );
    for method in METHODS.iter().chain(&BEFORE) {
        let losses = ["f32", "bf16"].map(|dtype| {
            let flags = format!("--method {method} --lr 3e-3 --steps 30 --batch 8 --log-every 30");
            run(dir, &format!("finetune --model base --train train.tok {flags} --device cpu --dtype {dtype} -q -o {dtype}"));
            last(dir, dtype, "loss")
        });
        let [whole, half] = losses;
        assert!((whole - half).abs() < 0.02 * whole, "{method}: {whole} in f32, {half} in bf16");
        assert!(whole != half, "{method}: bf16 computes what f32 does");
    }
}

/// A row that holds a word whose embedding is no number.
#[test]
fn a_step_that_goes_wrong_is_passed_over() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 2 --device cpu --dtype f32 -q -o base train.tok
         prep sample --split train --limit 12 --tokenizer tok -q -o few.tok",
    );
    let shard = Shard::open_one(&dir.join("few.tok")).unwrap();
    let tokens = |i: usize| shard.view(i).tokens.iter().collect::<Vec<u32>>();
    let of_others = (0..11).flat_map(tokens).collect::<Vec<u32>>();
    let own = *tokens(11).iter().find(|token| !of_others.contains(token)).unwrap();
    let file = dir.join("base/model.safetensors");
    let (tensors, _) = read_tensors(&file).unwrap();
    let words =
        tensors.iter().find(|(name, _)| name.ends_with("word_embeddings.weight")).unwrap().1;
    let _ = words.get(own.into()).fill_(f64::NAN);
    write_tensors(
        &file,
        tensors.iter().map(|(name, t)| (name.clone(), t)),
        ("format", "pt".into()),
    )
    .unwrap();

    let command = "finetune --model base --train few.tok --method lora --batch 3 --epochs 3 --log-every 4 --device cpu -q -o out";
    let failed = shell(dir, command).output().unwrap();
    let said = both(&failed);
    assert!(!failed.status.success() && said.contains("is not a number; its rows: "), "{said}");
    assert!(said.contains("--skip-nan 1 passes over such steps"), "{said}");
    let failed = both(&shell(dir, &format!("{command} --skip-nan 2")).output().unwrap());
    assert!(failed.contains("--skip-nan 3"), "{failed}");
    run(dir, &format!("{command} --skip-nan 3"));
    let log = log(dir, "out");
    let skips = log.iter().filter(|line| line.contains("\"event\":\"skip\""));
    assert_eq!(skips.count(), 1 + 3 + 3, "one a pass over the data, in three runs");
    assert!(last(dir, "out", "loss").is_finite());
    documented(log);
}

/// Words added to a model: their rows train, every other weight stays to the bit, also in a decoder tied to them.
#[test]
fn rows_of_added_words_train_alone() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 2 --device cpu --dtype f32 -q -o base train.tok
         prep sample --split domain --extend base --words 5 -q -o extended
         prep sample --split domain --limit 64 --tokenizer extended -q -o domain.tok
         pretrain --model extended --method tokens --lr 1e-2 --steps 2 --device cpu --dtype f32 -q -o adapter domain.tok
         merge adapter -o merged -q",
    );
    let weights = |model: &str| read_tensors(&dir.join(model).join("model.safetensors")).unwrap().0;
    let (before, after) = (weights("extended"), weights("merged"));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, was) in &before {
        let changed = was.not_equal_tensor(&after[name]);
        if !name.ends_with("word_embeddings.weight") {
            assert!(!bool::try_from(changed.any()).unwrap(), "{name} changed");
            continue;
        }
        let rows = Vec::<bool>::try_from(changed.any_dim(1, false)).unwrap();
        let (old, new) = rows.split_at(rows.len() - 5);
        assert!(!old.contains(&true) && !new.contains(&false), "{name}: {rows:?}");
    }
}

fn close(method: &str, ours: &[f64], base: &[f64]) {
    assert!(!ours.is_empty() && ours.len() == base.len());
    let far = ours.iter().zip(base).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-5, "{method} starts {far} from the base");
}

/// Every probability of predictions as JSON lines.
fn probabilities(lines: &str) -> Vec<f64> {
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows = lines.filter_map(|line| line["probs"].as_object().cloned());
    rows.flat_map(|row| row.values().map(|p| p.as_f64().unwrap()).collect::<Vec<_>>()).collect()
}

/// Every key of every line of the log, in docs/formats.md, in the row of its event.
#[test]
fn the_log_is_as_documented() {
    let dir = sample();
    let dir = dir.path();
    let often = "--steps 2 --log-every 1 --save-every 1 --device cpu --dtype f32 -q";
    run(
        dir,
        &format!(
            "mask validation.tok > eval.bin
             pretrain --from-scratch config.json --tokenizer tok --eval eval.bin {often} -o base train.tok
             pretrain --model base --guard eval.bin --guard-limit 9 {often} -o guarded train.tok
             finetune --model base --train train.tok --eval validation.tok {often} -o fine"
        ),
    );
    documented(["base", "guarded", "fine"].map(|out| log(dir, out)).concat());
}

/// Every key of these lines is in docs/formats.md, in the row of its event.
fn documented(lines: Vec<String>) {
    let formats = fs::read_to_string(common::root().join("docs/formats.md")).unwrap();
    let (_, section) = formats.split_once("\n## Log\n").unwrap();
    for line in lines {
        let event: Value = serde_json::from_str(&line).unwrap();
        let name = event["event"].as_str().unwrap();
        let row = section.lines().find(|row| row.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/formats.md has no event {name}"));
        for key in event.as_object().unwrap().keys().filter(|key| *key != "event") {
            assert!(row.contains(&format!("`{key}`")), "docs/formats.md: {name} lacks {key}");
        }
    }
}
