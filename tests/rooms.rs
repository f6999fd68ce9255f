//! The house rules that no compiler holds: imports between rooms, and sizes.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name of the others.
const IMPORTS: [(&str, &[&str]); 16] = [
    ("cli", &["flags"]),
    ("flags", &[]),
    ("random", &[]),
    ("metrics", &[]),
    ("report", &[]),
    ("data", &["random"]),
    ("shard", &["flags", "random"]),
    ("text", &["flags", "shard"]),
    ("native", &["flags"]),
    ("nn", &["random"]),
    ("model", &["flags", "nn"]),
    ("peft", &["flags", "nn"]),
    ("checkpoint", &["flags", "model", "nn", "peft", "shard", "text"]),
    ("train", &["checkpoint", "flags", "metrics", "model", "nn", "random", "shard", "text"]),
    ("program", &["cli", "nn", "train"]),
    ("lib", &[]),
];

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for dir in ["src", "plain/src"] {
        walk(&common::root().join(dir), &mut found);
    }
    assert!(found.len() > 30, "only {} source files found", found.len());
    found
}

fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// The room a file belongs to: the directory below `src`, or the file itself.
fn room(path: &Path) -> String {
    let mut parts = path.iter().skip_while(|part| *part != "src").skip(1);
    parts.next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_go_one_way() {
    for (path, text) in sources() {
        let room = room(&path);
        if ["bin", "lib"].contains(&room.as_str()) {
            continue;
        }
        let (_, allowed) = IMPORTS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("no room {room}"));
        for name in imports(&text) {
            let known = IMPORTS.iter().any(|(room, _)| *room == name);
            // Every room may fail with a cure.
            let fine = name == room || name == "flags" || allowed.contains(&name.as_str());
            assert!(!known || fine, "{}: {room} must not import {name}", path.display());
        }
    }
}

/// The first part of every path into the crate: `a` and `b` of `crate::{a::x, b}`.
fn imports(text: &str) -> Vec<String> {
    let name = |path: &str| -> String {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut names = Vec::new();
    for path in text.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            None => names.push(name(path)),
            Some(list) => {
                let list = list.split_once("};").unwrap().0;
                names.extend(outside_braces(list).split(',').map(name));
            }
        }
    }
    names
}

/// A list without what nested braces hold.
fn outside_braces(list: &str) -> String {
    let mut depth = 0;
    let keep = |c: &char| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    };
    list.chars().filter(keep).collect()
}

#[test]
fn imports_are_found() {
    let text = "use crate::{nn::{A, model}, random};\nuse crate::text::T; crate::shard::f()";
    assert_eq!(imports(text), ["nn", "random", "text", "shard"]);
}

#[test]
fn model_files_know_no_method() {
    for (path, text) in sources().iter().filter(|(path, _)| room(path) == "model") {
        let text = text.to_lowercase();
        for word in ["lora", "adapter", "bitfit"] {
            assert!(!text.contains(word), "{} speaks of {word}", path.display());
        }
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let limit = if room(&path) == "bin" { 150 } else { 400 };
        assert!(lines <= limit, "{} has {lines} lines; {limit} is the most", path.display());
        for (name, length) in functions(&text) {
            assert!(length <= 60, "{}: {name} has {length} lines; 60 is the most", path.display());
            lengths.push(length);
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < 12, "the median function has {median} lines; under 12 is wanted");
}

/// Name and lines of every function, from its `fn` to the brace that closes at the same indent; tests left out.
fn functions(text: &str) -> Vec<(String, usize)> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let rest = body.strip_prefix("pub(super) ").or(body.strip_prefix("pub ")).unwrap_or(body);
        let Some(rest) = rest.strip_prefix("fn ") else { continue };
        // A trait's function may have no body.
        let signature = lines[at..]
            .iter()
            .find(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
        if signature.is_none_or(|line| line.ends_with(';')) {
            continue;
        }
        let close = " ".repeat(line.len() - body.len()) + "}";
        let length = lines[at..].iter().position(|line| *line == close).map_or(1, |end| end + 1);
        let name = rest.split(['(', '<']).next().unwrap().to_owned();
        found.push((name, length));
    }
    found
}

/// `prep`, `mask`, `peek` and `report` start in milliseconds because they do not load LibTorch.
#[test]
fn the_plain_programs_link_no_libtorch() {
    for program in ["prep", "mask", "peek", "report"] {
        let bytes = fs::read(common::bin().join(program)).unwrap();
        let named = bytes.windows(12).any(|window| window == b"libtorch_cpu");
        assert!(!named, "{program} names libtorch");
    }
}
