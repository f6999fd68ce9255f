//! What the tests share: a place to work in, the programs on the PATH, a tiny model.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The directory of the programs under test.
pub fn bin() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_prep")).parent().unwrap().to_owned()
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Says that a test did not run. Written past the test harness, which shows nothing of a test that passes.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// The reference data beside the project, where there is some.
pub fn shared(what: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(what);
    if path.exists() {
        return Some(path.canonicalize().unwrap());
    }
    skipped(&format!("no {} here", path.display()));
    None
}

/// The Python that the numbers are compared with. Without it a test is skipped, unless PARITY says it must not be.
pub fn python() -> Option<PathBuf> {
    let python = root().join(".venv/bin/python");
    if root().join(".venv/full.stamp").exists() {
        return Some(python);
    }
    assert!(
        std::env::var_os("PARITY").is_none(),
        "no Python to compare with: scripts/libtorch full"
    );
    skipped("no Python to compare with; scripts/libtorch full installs it");
    None
}

fn path() -> OsString {
    let mut dirs = vec![bin()];
    dirs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    std::env::join_paths(dirs).unwrap()
}

/// A shell command in `dir`, with the programs on the PATH.
pub fn shell(dir: &Path, command: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).current_dir(dir).env("PATH", path()).env_remove("TAPT_DATA");
    // No test asks the real hub, nor looks into the cache of whoever runs it.
    bash.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", "no-cache").env_remove("HF_ENDPOINT");
    bash.env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "2");
    // A make of a test's own is not a part of the `make test` that may run it.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        bash.env_remove(name);
    }
    bash
}

/// Runs a command that must succeed, and gives what it wrote.
pub fn run(dir: &Path, command: &str) -> String {
    let output = shell(dir, command).output().unwrap();
    assert!(output.status.success(), "{command}\n{}", both(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A directory with a tokenizer `tok`, shards of the sample, and the config of a tiny model.
pub fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), TINY).unwrap();
    run(
        dir.path(),
        "prep sample --split general --limit 2000 --train-tokenizer 500 -q -o tok
         for split in train validation test; do
             prep sample --split $split --limit 100 --tokenizer tok -q -o $split.tok
         done",
    );
    dir
}

pub const TINY: &str = r#"{"model_type": "roberta", "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 514, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}"#;

/// Runs the tests of this process again for the other instruction sets that the machine has; not within such a run.
pub fn on_other_instructions() {
    /// What bounds the instructions that LibTorch and our kernels use.
    const CAPABILITY: &str = "ATEN_CPU_CAPABILITY";
    if std::env::var_os(CAPABILITY).is_some() {
        return;
    }
    for set in ["avx2", "default"] {
        let again = Command::new(std::env::current_exe().unwrap()).env(CAPABILITY, set).output();
        let output = again.unwrap();
        assert!(output.status.success(), "{set}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
