//! The house rules that no compiler holds: imports between rooms, and sizes.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name of the others: the table in docs/design.md.
fn may_import() -> BTreeMap<String, Vec<String>> {
    let design = fs::read_to_string(common::root().join("docs/design.md")).unwrap();
    let (_, table) = design.split_once("| room | may import |\n| --- | --- |\n").unwrap();
    let mut rooms = BTreeMap::new();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let [_, names, allowed, _] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("docs/design.md: {row}")
        };
        let allowed = quoted(allowed);
        assert_eq!(allowed.is_empty(), row.contains("| nothing |"), "docs/design.md: {row}");
        for name in quoted(names) {
            assert!(rooms.insert(name, allowed.clone()).is_none(), "docs/design.md: {row}");
        }
    }
    rooms
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(String::from).collect()
}

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
    let rooms = may_import();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources() {
        let room = room(&path);
        if ["bin", "lib"].contains(&room.as_str()) {
            continue;
        }
        let allowed = rooms.get(&room).unwrap_or_else(|| panic!("docs/design.md: no room {room}"));
        let named = named.entry(room.clone()).or_default();
        for name in imports(&text) {
            // Every room may fail with a cure.
            if name == room || name == "flags" {
                continue;
            }
            let fine = allowed.contains(&name) || !rooms.contains_key(&name);
            assert!(fine, "{}: {room} must not import {name}", path.display());
            named.insert(name);
        }
    }
    for (room, allowed) in &rooms {
        let named = named.get(room).unwrap_or_else(|| panic!("docs/design.md: {room} is no room"));
        for name in allowed {
            assert!(named.contains(name), "docs/design.md: {room} does not import {name}");
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
        let Some(rest) = signature(body) else { continue };
        let ends = |line: &str| line.ends_with(['{', ';', '}']);
        let opening = lines[at..].iter().position(|line| ends(line)).unwrap_or(0);
        let close = match lines[at + opening].chars().last() {
            // A trait's function may have no body.
            Some(';') => continue,
            Some('}') => Some(opening),
            _ => {
                let brace = " ".repeat(line.len() - body.len()) + "}";
                lines[at..].iter().position(|line| *line == brace)
            }
        };
        let length = close.unwrap_or_else(|| panic!("no end of {line}")) + 1;
        let name = rest.split(['(', '<']).next().unwrap().to_owned();
        found.push((name, length));
    }
    found
}

/// What follows `fn`, whatever stands before it: `pub(crate) const unsafe extern "C" fn`.
fn signature(line: &str) -> Option<&str> {
    let (before, rest) = match line.strip_prefix("fn ") {
        Some(rest) => ("", rest),
        None => line.split_once(" fn ")?,
    };
    let known = |word: &str| {
        let word = word.split('(').next().unwrap();
        ["pub", "const", "async", "unsafe", "extern", "\"C\"", "default"].contains(&word)
    };
    before.split_whitespace().all(known).then_some(rest)
}

#[test]
fn functions_are_found() {
    let text = "fn a() {\n}\npub(crate) fn b<T>(\n    x: T,\n) {\n}\npub const fn c() -> u8 { 1 }\n
        unsafe fn d() {\n        }\npub unsafe extern \"C\" fn e() {\n}\npub(super) async fn f() {\n}
// what fn g() {\nfn h();\nlet x: &dyn fn i() {\n";
    let found: Vec<(String, usize)> = functions(text);
    let wanted = [("a", 2), ("b", 4), ("c", 1), ("d", 2), ("e", 2), ("f", 2)];
    assert_eq!(found, wanted.map(|(name, lines)| (name.to_owned(), lines)));
}

/// They start in milliseconds because they do not load LibTorch.
#[test]
fn the_plain_programs_link_no_libtorch() {
    for program in ["prep", "mask", "peek", "layers", "report", "fetch"] {
        let bytes = fs::read(common::bin().join(program)).unwrap();
        let named = bytes.windows(12).any(|window| window == b"libtorch_cpu");
        assert!(!named, "{program} names libtorch");
    }
}
