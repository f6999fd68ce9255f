//! Golden cases: tests/cases/PROGRAM/NAME/{cmd, input?, expout?, experr?, status?}, other files are copied along.
//!
//! GOLDEN=1 cargo test --test cases rewrites what was expected; read the diff. CASE=evaluate/ runs those alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

const KNOWN: [&str; 5] = ["cmd", "input", "expout", "experr", "status"];

#[test]
fn cases() {
    let mut all = cases_in(&common::root().join("tests/cases"));
    assert!(all.len() > 20, "only {} cases found", all.len());
    let only = std::env::var("CASE").unwrap_or_default();
    all.retain(|case| case.to_string_lossy().contains(&only));
    let (next, failures) = (Mutex::new(all.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = { next.lock().unwrap().next() } {
                    failures.lock().unwrap().extend(check(case));
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} cases\n{}",
        failures.len(),
        all.len(),
        failures.join("\n")
    );
}

fn cases_in(dir: &Path) -> Vec<PathBuf> {
    let programs = entries(dir).into_iter().filter(|path| path.is_dir());
    programs
        .flat_map(|program| entries(&program))
        .filter(|case| case.join("cmd").exists())
        .collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

fn check(case: &Path) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    for file in entries(case)
        .iter()
        .filter(|file| !KNOWN.contains(&file.file_name().unwrap().to_str().unwrap()))
    {
        let copied = Command::new("cp").arg("-rL").arg(file).arg(dir.path()).status().unwrap();
        assert!(copied.success());
    }
    let command = fs::read_to_string(case.join("cmd")).unwrap();
    let input = match case.join("input").exists() {
        true => Stdio::from(fs::File::open(case.join("input")).unwrap()),
        false => Stdio::null(),
    };
    let output = common::shell(dir.path(), &command).stdin(input).output().unwrap();
    let status = output.status.code().map_or("signal".into(), |code| format!("{code}\n"));
    let seen = [
        ("expout", output.stdout, ""),
        ("experr", output.stderr, ""),
        ("status", status.into_bytes(), "0\n"),
    ];
    let wrong: Vec<String> = seen
        .iter()
        .filter_map(|(name, seen, none)| compare(&case.join(name), seen, none))
        .collect();
    (!wrong.is_empty()).then(|| format!("{}: {command}{}", case.display(), wrong.concat()))
}

/// Compares with a golden file; a file that is not there stands for `none`.
fn compare(golden: &Path, seen: &[u8], none: &str) -> Option<String> {
    let wanted = fs::read(golden).unwrap_or(none.as_bytes().to_vec());
    // What a case says about time is not compared.
    let seen = steady(seen);
    if seen == steady(&wanted) {
        return None;
    }
    if std::env::var_os("GOLDEN").is_some() {
        if seen == none {
            fs::remove_file(golden).ok()
        } else {
            fs::write(golden, seen).ok()
        };
        return None;
    }
    Some(format!("--- {}\n{}+++ seen\n{seen}", golden.display(), steady(&wanted)))
}

/// Text with every `1.2 s` written as `N s`.
fn steady(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let words: Vec<&str> = text.split(' ').collect();
    let is_time = |i: usize| {
        words[i].parse::<f64>().is_ok()
            && words.get(i + 1).is_some_and(|next| next.trim_end().split('\n').next() == Some("s"))
    };
    let steady = (0..words.len()).map(|i| if is_time(i) { "N" } else { words[i] });
    steady.collect::<Vec<_>>().join(" ")
}
