//! Vectors of more texts than a window holds, and held against sentence-transformers.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::{both, run, shell};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// More than two windows of texts.
const LINES: usize = 9000;

/// A model `mlm`, and `texts`, lines of one to twelve words.
fn place() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let tiny = common::TINY.replace("514", "66");
        fs::write(dir.path().join("config.json"), tiny).unwrap();
        run(
            dir.path(),
            "prep sample --split general --limit 500 --train-tokenizer 400 -q -o tok
             prep sample --split general --limit 100 --tokenizer tok --max-length 64 -q |
                 pretrain --from-scratch config.json --tokenizer tok --steps 1 -q --device cpu -o mlm",
        );
        fs::write(dir.path().join("texts"), texts(LINES).join("\n") + "\n").unwrap();
        dir
    });
    dir.path()
}

/// Lines of lengths that go up and down.
fn texts(count: usize) -> Vec<String> {
    let words = ["rain", "hill", "market", "goal", "the", "of", "night"];
    let line = |i: usize| {
        let words = (0..1 + i * 7919 % 12).map(|w| words[(i * 31 + w * w) % words.len()]);
        words.collect::<Vec<_>>().join(" ") + &format!(" {i}")
    };
    (0..count).map(line).collect()
}

/// The lines that `embed` writes for a part of the texts.
fn lines(flags: &str, from: usize, to: usize) -> Vec<String> {
    let part = format!("sed -n '{},{to}p' texts", from + 1);
    let command = format!("embed mlm <({part}) {flags} -q --device cpu --dtype f32");
    run(place(), &command).lines().map(String::from).collect()
}

/// What stands behind the row.
fn vector(line: &str) -> &str {
    line.split_once(",\"embedding\":").unwrap().1
}

#[test]
fn several_windows_are_as_one() {
    for flags in ["", "--pool max --layer all", "--pool none --truncate 5"] {
        let whole = run(place(), &format!("embed mlm texts {flags} -q --device cpu --dtype f32"));
        let whole: Vec<&str> = whole.lines().collect();
        assert_eq!(whole.len(), LINES);
        for (i, line) in whole.iter().enumerate() {
            assert!(line.starts_with(&format!("{{\"row\":{i},")), "{i}: {line}");
        }
        for (from, to) in [(0, 1), (1, 700), (4000, 4200), (8191, LINES)] {
            for (i, line) in lines(flags, from, to).iter().enumerate() {
                assert_eq!(vector(line), vector(whole[from + i]), "{flags}: line {}", from + i);
            }
        }
    }
}

#[test]
fn a_file_has_what_the_lines_have() {
    for (flags, pooled) in [("--truncate 7", true), ("--pool none --layer 1", false)] {
        let command = format!("embed mlm texts {flags} -q --device cpu --dtype f32");
        let whole = run(place(), &command);
        let file = format!("v{pooled}.safetensors");
        run(place(), &format!("{command} -o {file}"));
        let bytes = fs::read(place().join(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<u64> {
            let view = tensors.tensor(name).unwrap();
            let (begin, start) = (view.data().as_ptr() as usize, bytes.as_ptr() as usize);
            assert_eq!((begin - start) % 8, 0, "{name} is not aligned");
            let words = view.data().chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
            words.collect()
        };
        assert_eq!(words("rows"), (0..LINES as u64).collect::<Vec<_>>());
        let embeddings = tensors.tensor("embeddings").unwrap();
        let numbers: Vec<f32> = embeddings
            .data()
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let width = embeddings.shape()[1];
        let ends: Vec<usize> = match pooled {
            true => (0..=LINES).collect(),
            false => words("offsets").into_iter().map(|end| end as usize).collect(),
        };
        assert_eq!((ends.len(), ends[LINES]), (LINES + 1, embeddings.shape()[0]));
        for (i, line) in whole.lines().enumerate() {
            let own: Vec<&[f32]> =
                numbers[ends[i] * width..ends[i + 1] * width].chunks(width).collect();
            let wanted = if pooled { json!(own[0]) } else { json!(own) };
            let line: Value = serde_json::from_str(line).unwrap();
            let same = |a: &Value, b: &Value| numbers_of(a) == numbers_of(b);
            assert!(same(&line["embedding"], &wanted), "line {i}");
        }
    }
}

/// All numbers of nested lists, as f32.
fn numbers_of(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers_of).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

#[test]
fn what_was_whole_is_written_before_an_error() {
    let mut bytes = fs::read(place().join("texts")).unwrap();
    let cut = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(4999).unwrap().0;
    bytes[cut - 1] = 0xff;
    fs::write(place().join("bad"), bytes).unwrap();
    let output = shell(place(), "embed mlm bad -q --device cpu").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 4999);
    assert!(both(&output).contains("bad:5000: not UTF-8"));
    let output =
        shell(place(), "embed mlm bad -q --device cpu -o bad.safetensors").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(run(place(), "ls -A | grep bad"), "bad\n");
}

#[test]
fn who_pauses_is_answered() {
    let mut child = shell(place(), "exec embed mlm -q --device cpu")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    for row in 0..3 {
        writeln!(input, "rain").unwrap();
        assert!(lines.next().unwrap().unwrap().starts_with(&format!("{{\"row\":{row},")));
    }
    drop(input);
    assert!(lines.next().is_none() && child.wait().unwrap().success());
}

#[test]
fn predictions_of_several_stretches_are_in_order() {
    run(
        place(),
        "prep sample --split train --limit 8 --tokenizer tok --max-length 64 -q -o eight.tok
         finetune --model mlm --train eight.tok --steps 1 -q --device cpu -o cls
         for i in {1..1200}; do cat eight.tok; done > many.tok
         evaluate cls many.tok -q --device cpu --dtype f32 -p many.jsonl > many.json
         evaluate cls eight.tok -q --device cpu --dtype f32 -p eight.jsonl > eight.json
         for i in {1..1200}; do cat eight.jsonl; done | cmp - many.jsonl",
    );
    let read = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(place().join(file)).unwrap()).unwrap()
    };
    let (many, eight) = (read("many.json"), read("eight.json"));
    assert_eq!((&many["examples"], &eight["examples"]), (&json!(9600), &json!(8)));
    assert_eq!(many["scores"]["accuracy"], eight["scores"]["accuracy"]);
    let loss = |scores: &Value| scores["scores"]["loss"].as_f64().unwrap();
    assert!((loss(&many) - loss(&eight)).abs() < 1e-6);
}

/// Its modules, pooling, scaling and length are its own; texts of all kinds, one longer than it takes.
#[test]
fn as_sentence_transformers() {
    let Some(script) = common::shared("models/minilm") else { return };
    let Some(python) = common::python() else { return };
    let output = Command::new("bash").arg(script).output().unwrap();
    if !output.status.success() {
        return common::skipped("the real encoder could not be fetched");
    }
    let model = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let texts =
        ["", "Yes.", "A café in Zürich serves 37 kinds of tea; its naïve website lists only nine!"];
    let long = "The central bank left its main interest rate unchanged on Thursday. ".repeat(40);
    let mut all: Vec<String> = texts.into_iter().chain([long.as_str()]).map(String::from).collect();
    let sample = run(dir.path(), "prep sample --split general --limit 200 --jsonl -q");
    let sample = sample.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.extend(sample.map(|row| row["text"].as_str().unwrap().to_owned()));
    let lines: Vec<String> = all.iter().map(|text| json!({"text": text}).to_string()).collect();
    fs::write(dir.path().join("texts.jsonl"), lines.join("\n")).unwrap();
    let theirs = Command::new(python)
        .arg(common::root().join("tests/parity/sentence.py"))
        .args([&model, "texts.jsonl", "theirs.safetensors"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{}", both(&theirs));
    run(
        dir.path(),
        &format!("embed {model} texts.jsonl -q --dtype f32 --device cpu -o ours.safetensors"),
    );
    let read = |file: &str| -> Vec<Vec<f32>> {
        let bytes = fs::read(dir.path().join(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let view = tensors.tensor("embeddings").unwrap();
        let numbers = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let numbers: Vec<f32> = numbers.collect();
        numbers.chunks(view.shape()[1]).map(<[f32]>::to_vec).collect()
    };
    let (ours, theirs) = (read("ours.safetensors"), read("theirs.safetensors"));
    assert_eq!((ours.len(), theirs.len()), (all.len(), all.len()));
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let cosine = dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt();
        assert!(cosine >= 0.99999, "{}: {cosine}", all[i]);
        let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{}: {apart}", all[i]);
    }
}
