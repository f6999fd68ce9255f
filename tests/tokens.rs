//! Texts in several sequences, trained tokenizers and extended models, held against transformers on real data.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The data and the tokenizers beside the project, and a Python with transformers.
fn real() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let (data, tokenizers) = (common::shared("data")?, common::shared("tokenizers")?);
    Some((data, tokenizers, common::python()?))
}

/// Runs a script of tests/parity in `dir`.
fn script(python: &Path, dir: &Path, name: &str, arguments: &[&str]) {
    let mut command = Command::new(python);
    command.arg(common::root().join("tests/parity").join(name)).args(arguments);
    let output = command.current_dir(dir).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", common::both(&output));
}

#[test]
fn windows_chunks_and_joined_sequences() {
    let Some((data, tokenizers, python)) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let rows =
        format!("prep imdb --split test --limit 400 --data {} --label none -q", data.display());
    common::run(dir.path(), &format!("{rows} --jsonl -o texts.jsonl"));
    for name in ["bert-base-uncased", "roberta-base"] {
        let tokenizer = tokenizers.join(name).display().to_string();
        for (kind, flags) in
            [("stride", "--stride 32"), ("pack", "--pack"), ("join", "--pack --join")]
        {
            let to = format!("--tokenizer {tokenizer} --max-length 128 {flags} -o x.tok");
            common::run(dir.path(), &format!("{rows} {to}"));
            script(&python, dir.path(), "pieces.py", &[kind, "x.tok", "texts.jsonl", &tokenizer]);
        }
    }
}

/// Of a pair that is too long the longer text loses a token first, as transformers' `longest_first`; or it is divided.
#[test]
fn pairs() {
    let Some((data, tokenizers, python)) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let rows = format!("prep medical_questions_pairs --data {} -q", data.display());
    common::run(dir.path(), &format!("{rows} --jsonl -o texts.jsonl"));
    for name in ["bert-base-uncased", "roberta-base"] {
        let tokenizer = tokenizers.join(name).display().to_string();
        let to = format!("{rows} --tokenizer {tokenizer} --max-length 32 -o x.tok");
        common::run(dir.path(), &to);
        script(&python, dir.path(), "shard.py", &["ids", "x.tok", "texts.jsonl", &tokenizer, "32"]);
        common::run(dir.path(), &format!("{to} --stride 4"));
        script(&python, dir.path(), "pieces.py", &["stride", "x.tok", "texts.jsonl", &tokenizer]);
    }
}

#[test]
fn trained_tokenizers() {
    let Some((data, _, python)) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let rows = format!("prep rotten_tomatoes --data {} -q", data.display());
    common::run(dir.path(), &format!("{rows} --split test --jsonl -o texts.jsonl"));
    for kind in ["bpe", "wordpiece"] {
        common::run(
            dir.path(),
            &format!(
                "{rows} --train-tokenizer 3000 --kind {kind} -o {kind}
                 {rows} --split test --tokenizer {kind} -o x.tok"
            ),
        );
        script(&python, dir.path(), "shard.py", &["ids", "x.tok", "texts.jsonl", kind, "512"]);
    }
}

/// A tiny model with a real tokenizer, with more words: in transformers and in `pretrain`.
#[test]
fn extended_models() {
    let Some((data, tokenizers, python)) = real() else { return };
    for (architecture, name) in [
        ("bert", "bert-base-uncased"),
        ("distilbert", "distilbert-base-uncased"),
        ("roberta", "roberta-base"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let rows = format!("prep reuters21578 --limit 2000 --data {} -q", data.display());
        fs::write(dir.path().join("config.json"), config(architecture)).unwrap();
        let tokenizer = tokenizers.join(name).display().to_string();
        common::run(
            dir.path(),
            &format!(
                "{rows} --jsonl -o texts.jsonl
                 {rows} --limit 50 --tokenizer {tokenizer} --max-length 64 -o old.tok
                 pretrain --from-scratch config.json --tokenizer {tokenizer} old.tok --steps 1 --lr 1e-2 --device cpu -q -o old
                 {rows} --extend old --words 200 -o new
                 {rows} --tokenizer new -o new.tok
                 {rows} --limit 50 --tokenizer new --max-length 64 -o few.tok
                 pretrain --model new few.tok --steps 1 --device cpu -q -o on"
            ),
        );
        let met = |model: &str| fs::read(dir.path().join(model).join("texts.safetensors")).unwrap();
        assert_eq!(met("old"), met("new"));
        script(&python, dir.path(), "shard.py", &["ids", "new.tok", "texts.jsonl", "new", "512"]);
        script(&python, dir.path(), "extended.py", &["old", "new", "texts.jsonl"]);
    }
}

fn config(architecture: &str) -> String {
    match architecture {
        "distilbert" => r#"{"model_type": "distilbert", "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32,
            "max_position_embeddings": 512, "pad_token_id": 0}"#
            .to_owned(),
        "bert" => common::TINY
            .replace("roberta", "bert")
            .replace("\"type_vocab_size\": 1", "\"type_vocab_size\": 2")
            .replace("\"pad_token_id\": 1", "\"pad_token_id\": 0"),
        _ => common::TINY.to_owned(),
    }
}
