//! `--tensorboard`: TensorBoard reads what the log says.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{both, root, run, sample, shell};
use serde_json::Value;

type Scalars = BTreeMap<String, BTreeMap<u64, f64>>;

/// What TensorBoard has of a directory, once for each step; nothing where there is none to ask.
fn read(dir: &Path) -> Option<Scalars> {
    let python = common::python()?;
    let there = Command::new(&python).args(["-c", "import tensorboard"]).output().unwrap();
    if !there.status.success() {
        assert!(std::env::var_os("PARITY").is_none(), "no tensorboard: scripts/libtorch full");
        common::skipped("no tensorboard to read with; scripts/libtorch full installs it");
        return None;
    }
    let script = root().join("tests/parity/events.py");
    let output = Command::new(python).arg(script).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    let lists: BTreeMap<String, Vec<(u64, f64)>> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |(tag, list): (String, Vec<(u64, f64)>)| (tag, list.into_iter().collect());
    Some(lists.into_iter().map(of).collect())
}

/// What a log says, of a step written again the last.
fn logged(log: &Path) -> Scalars {
    let mut all = Scalars::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let step = event["step"].as_u64().unwrap_or(0);
        let mut add = |group: &str, numbers: &Value, keys: &[&str]| {
            for key in keys {
                let value = numbers[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
                all.entry(format!("{group}/{key}")).or_default().insert(step, value);
            }
        };
        match event["event"].as_str().unwrap() {
            "step" => add("train", &event, &["loss", "lr", "grad_norm", "tokens_per_s", "max_rss"]),
            "eval" if event["scores"]["nats"].is_null() => {
                add("eval", &event["scores"], &["accuracy", "macro_f1", "micro_f1", "mcc", "loss"]);
            }
            "eval" => add("eval", &event["scores"], &["nats", "perplexity", "accuracy"]),
            "guard" => add("guard", &event, &["nats", "before"]),
            _ => {}
        }
    }
    all
}

fn same(dir: &Path, out: &str) {
    let wanted = logged(&dir.join(out).join("log.jsonl"));
    assert!(wanted.contains_key("train/loss") && wanted.len() > 4, "{wanted:?}");
    let Some(seen) = read(&dir.join(out).join("board")) else { return };
    let tags = |all: &Scalars| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(tags(&seen), tags(&wanted));
    for (tag, steps) in &wanted {
        assert_eq!(seen[tag].keys().collect::<Vec<_>>(), steps.keys().collect::<Vec<_>>(), "{tag}");
        for (step, value) in steps {
            let read = seen[tag][step];
            assert!(read == f64::from(*value as f32), "{tag} at {step}: {read}, not {value}");
        }
    }
}

#[test]
fn tensorboard_reads_what_the_log_says() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "mask validation.tok > dev.bin
         pretrain --from-scratch config.json --tokenizer tok --steps 2 -q -o base train.tok
         pretrain --model base --steps 6 --log-every 2 --eval dev.bin --guard dev.bin --eval-every 3 -q \
             --tensorboard mlm/board -o mlm train.tok
         finetune --model mlm --train train.tok --eval validation.tok --steps 6 --log-every 1 --eval-every 2 -q \
             --tensorboard cls/board -o cls",
    );
    same(dir, "mlm");
    same(dir, "cls");
}

/// A run stopped and gone on with, steps after its last save written again, and a last record that is cut off.
#[test]
fn a_run_of_several_processes_is_one_curve() {
    let dir = sample();
    let dir = dir.path();
    run(dir, "pretrain --from-scratch config.json --tokenizer tok --steps 2 -q -o base train.tok");
    let train = "finetune --model base --train train.tok --steps 40 --log-every 1 --eval validation.tok \
                 --eval-every 10 --tensorboard out/board -o out -q";
    let stopped = shell(dir, &format!("{train} --time-limit 0s")).output().unwrap();
    assert_eq!(stopped.status.code(), Some(75), "{}", both(&stopped));
    run(dir, "truncate -s -3 out/board/*; cp -r out/state before");
    // As after a crash: step 2 is done, and not in the state.
    let stopped = shell(dir, &format!("{train} --time-limit 0s")).output().unwrap();
    assert_eq!(stopped.status.code(), Some(75), "{}", both(&stopped));
    run(dir, &format!("rm -r out/state; mv before out/state; {train}"));
    assert_eq!(run(dir, "ls out/board | wc -l").trim(), "3");
    // It is no setting: with it or without, the run is the same.
    let without = train.replace("--tensorboard out/board -o out", "--time-limit 0s -o without");
    assert_eq!(shell(dir, &without).output().unwrap().status.code(), Some(75));
    let identities =
        "grep -ho '\"identity\":\"[^\"]*' out/log.jsonl without/log.jsonl | sort -u | wc -l";
    assert_eq!(run(dir, identities).trim(), "1");
    assert_eq!(run(dir, "grep -c '\"event\":\"step\",\"step\":2,' out/log.jsonl").trim(), "2");
    let log = fs::read_to_string(dir.join("out/log.jsonl")).unwrap();
    assert!(log.contains("\"event\":\"resume\""), "{log}");
    // The record that was cut off is of the only step of the first process.
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"step\":1,")).collect();
    fs::write(dir.join("out/log.jsonl"), lines.join("\n")).unwrap();
    same(dir, "out");
}

#[test]
fn a_place_that_cannot_be_is_an_error() {
    let dir = sample();
    let what = "pretrain --from-scratch config.json --tokenizer tok --steps 2 -q -o base --tensorboard config.json train.tok";
    let output = shell(dir.path(), what).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = both(&output);
    assert!(said.starts_with("pretrain: --tensorboard config.json/events.out."), "{said}");
}
