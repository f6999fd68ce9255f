//! The readers from outside: what was written is read, and no bytes do worse than an error.
#![allow(clippy::unwrap_used)]

mod parquet;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;
use plain::data::{Dataset, Example, Input};
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    input: Input,
}

/// A folder with files of these names.
fn folder<B: AsRef<[u8]>>(files: &[(&str, B)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    dir
}

/// `prep NAMES FLAGS`, the names being of files in `dir`.
fn open(dir: &TempDir, names: &[&str], flags: &[&str]) -> Result<Dataset> {
    let names = names.iter().map(|name| dir.path().join(name).display().to_string());
    let flags = flags.iter().map(ToString::to_string);
    let args = std::iter::once("prep".to_owned()).chain(names).chain(flags);
    Args::parse_from(args).input.open(Path::new("data"))
}

fn rows(dir: &TempDir, names: &[&str], flags: &[&str]) -> Result<Vec<Example>> {
    open(dir, names, flags)?.examples.collect()
}

fn texts(dir: &TempDir, names: &[&str], flags: &[&str]) -> Vec<String> {
    rows(dir, names, flags).unwrap().into_iter().map(|row| row.text).collect()
}

/// What went wrong, without the folder.
fn cause(dir: &TempDir, names: &[&str], flags: &[&str]) -> String {
    let error = rows(dir, names, flags).unwrap_err();
    format!("{error:#}").replace(&format!("{}/", dir.path().display()), "")
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn compression_is_told_by_the_bytes() {
    let two = [zst(b"one\n"), zst(b"two\n")].concat();
    let dir =
        folder(&[("a.txt.zst", two), ("b.txt", zst(b"three")), ("c", gz(b"{\"text\":\"x\"}"))]);
    assert_eq!(texts(&dir, &["a.txt.zst", "b.txt", "c"], &[]), ["one", "two", "three", "x"]);
    let whole = zst(b"one\ntwo\nthree\n");
    let dir = folder(&[("a.txt", &whole[..whole.len() - 3])]);
    assert!(cause(&dir, &["a.txt"], &["--skip-bad"]).starts_with("a.txt:"));
}

#[test]
fn files_count_rows_through_and_patterns_are_sorted() {
    let dir = folder(&[("p10.txt", "c"), ("p02.txt", "b\n"), ("p01.jsonl", "{\"text\":\"a\"}")]);
    let read = rows(&dir, &["p*"], &[]).unwrap();
    let read: Vec<(&str, u64)> = read.iter().map(|row| (row.text.as_str(), row.row)).collect();
    assert_eq!(read, [("a", 0), ("b", 1), ("c", 2)]);
    let source = open(&dir, &["p10.txt", "p02.txt"], &[]).unwrap().source;
    let digest = format!("{:x}", Sha256::digest("c"));
    assert_eq!(source["files"][0]["sha256"], digest);
    assert!(source["files"][1]["file"].as_str().unwrap().ends_with("p02.txt"));
    assert_eq!(open(&dir, &["p10.txt"], &[]).unwrap().source["sha256"], digest);
}

#[test]
fn a_file_whose_name_looks_like_a_pattern_is_a_file() {
    let dir = folder(&[("a[1].txt", "one"), ("a1.txt", "two")]);
    assert_eq!(texts(&dir, &["a[1].txt"], &[]), ["one"]);
}

#[test]
fn a_split_may_be_several_files() {
    let dir = folder(&[("train-00000-of-00002.csv", "text\na\n"), ("test.txt", "t")]);
    let whole = dir.path().display().to_string();
    let error = cause(&dir, &[&whole], &[]);
    assert!(
        error.ends_with("train-00000-of-00002.csv: one of 2 files, but 1 are there"),
        "{error}"
    );
    fs::write(dir.path().join("train-00001-of-00002.csv"), "text\nb\n").unwrap();
    assert_eq!(texts(&dir, &[&whole], &[]), ["a", "b"]);
    assert_eq!(texts(&dir, &[&whole], &["--split", "test"]), ["t"]);
}

#[test]
fn bad_rows_are_left_out_and_keep_their_numbers() {
    let csv = b"a,text,label\n1,x,u\n2\n3,y,v\n4,z\xff,u\n5,w,v\n";
    let dir = folder(&[("a.csv", csv)]);
    assert_eq!(cause(&dir, &["a.csv"], &[]), "a.csv:3: the row has 1 fields, the first one 3");
    let numbers = |flags: &[&str]| -> Vec<u64> {
        rows(&dir, &["a.csv"], flags).unwrap().iter().map(|row| row.row).collect()
    };
    assert_eq!(numbers(&["--skip-bad"]), [0, 2, 4]);
    assert_eq!(numbers(&["--skip-bad", "--lossy"]), [0, 2, 3, 4]);
    assert_eq!(numbers(&["--skip-bad", "--limit", "3"]), [0, 2, 4]);
    for flags in [&["--skip-bad"][..], &["--skip-bad", "--limit", "2"]] {
        let data = open(&dir, &["a.csv"], flags).unwrap();
        assert_eq!(data.source["skipped"], 2);
        data.examples.for_each(drop);
        assert_eq!(data.skipped.count(), 2);
    }
}

#[test]
fn rows_that_lack_a_column_are_bad_and_no_good_row_is_an_error() {
    let dir = folder(&[("a.jsonl", "{\"n\":1}\n[]\n{\"text\":\"x\"}\n{\"text\":\"y")]);
    assert_eq!(texts(&dir, &["a.jsonl"], &["--skip-bad"]), ["x"]);
    let none = cause(&dir, &["a.jsonl"], &["--skip-bad", "--text", "body"]);
    let first = "a.jsonl:1: no column `body`; columns are `n`";
    assert_eq!(none, format!("no row can be read; 4 rows skipped; the first: {first}"));
}

#[test]
fn lossy_replaces_what_is_not_text() {
    let dir = folder(&[("a.txt", &b"x\xff\xe4y\nn\0n\n"[..])]);
    assert_eq!(cause(&dir, &["a.txt"], &[]), "a.txt:1: not UTF-8: byte 2 is 0xff");
    assert_eq!(texts(&dir, &["a.txt"], &["--lossy"]), ["x\u{fffd}\u{fffd}y", "n\u{fffd}n"]);
    let dir = folder(&[("a.csv", &b"text\nn\0n\n"[..])]);
    assert_eq!(cause(&dir, &["a.csv"], &[]), "a.csv:2: not text: byte 2 is 0");
}

#[test]
fn paragraphs_lie_between_blank_lines() {
    let text = b"\xef\xbb\xbf\r\none\r\n two\r\n\r\n \t\r\nthree\nb\xffad\n\nfour";
    let dir = folder(&[("a.txt", &text[..]), ("b.csv", b"text\nx\n")]);
    let flags = ["--documents", "paragraph"];
    assert_eq!(cause(&dir, &["a.txt"], &flags), "a.txt:7: not UTF-8: byte 2 is 0xff");
    let skipping = [&flags[..], &["--skip-bad"]].concat();
    assert_eq!(texts(&dir, &["a.txt"], &skipping), ["one\n two", "four"]);
    let error = cause(&dir, &["b.csv"], &flags);
    assert_eq!(error, "b.csv: --documents paragraph is for files of text");
}

#[test]
fn dots_lead_into_objects_and_names_with_dots_win() {
    let lines = r#"{"a":{"b":"in","b.c":"dot","label":"l"},"c":"y"}
{"a.b":"own","a":{"b":"in","b.c":"dot","label":"m"},"c":"z"}"#;
    let dir = folder(&[("a.jsonl", lines)]);
    let flags = ["--text", "a.b,c", "--pair", "a.b.c", "--label", "a.label"];
    let read = rows(&dir, &["a.jsonl"], &flags).unwrap();
    let read: Vec<(&str, Option<&str>)> =
        read.iter().map(|row| (row.text.as_str(), row.label.as_deref())).collect();
    assert_eq!(read, [("in y", Some("l")), ("own z", Some("m"))]);
    let pairs = rows(&dir, &["a.jsonl"], &flags).unwrap();
    assert!(pairs.iter().all(|row| row.pair.as_deref() == Some("dot")));
    assert!(cause(&dir, &["a.jsonl"], &["--text", "a.x"]).contains("no column `a.x`"));
}

/// Titles and descriptions as Python's csv module reads them: sha256 of all, a NUL after each.
#[test]
fn ag_news_reads_as_in_python() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/ag_news");
    let known = [
        ("test.csv", 7600, "e325affe8c1cb1175ef1a38a8b4700be10066855f28b38dd2f7c451198cd4c0e"),
        (
            "train_subset_titled.csv",
            35155,
            "09de4194cbc1320c30258883a940ebb851095b1315edcd73f942eb1d131b7573",
        ),
    ];
    for (name, count, digest) in known {
        let path: PathBuf = shared.join(name);
        if !path.exists() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no {} here", path.display());
            continue;
        }
        let path = path.display().to_string();
        let flags = ["--no-header", "--text", "1", "--pair", "2", "--label", "0"];
        let read = rows(&folder::<&str>(&[]), &[&path], &flags).unwrap();
        let mut hash = Sha256::new();
        for row in &read {
            hash.update(format!("{}\0{}\0", row.text, row.pair.as_deref().unwrap()));
        }
        assert_eq!((read.len(), format!("{:x}", hash.finalize()).as_str()), (count, digest));
    }
}

/// Reads to the first error; true if there is none.
fn survives(dir: &TempDir, name: &str, flags: &[&str]) -> bool {
    open(dir, &[name], flags).is_ok_and(|data| data.examples.into_iter().all(|row| row.is_ok()))
}

const READINGS: [&[&str]; 4] = [
    &[],
    &["--skip-bad", "--lossy", "--no-header", "--text", "0"],
    &["--lossy", "--limit", "3"],
    &["--documents", "paragraph", "--format", "text"],
];

/// Bytes with the marks that the readers look for.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let marks = ["\n", "\r\n", "\"", ",", "\t", "{\"text\":\"", "\"}", "\u{feff}", "text", "\0"];
    let mark = prop::sample::select(marks.to_vec()).prop_map(|mark| mark.as_bytes().to_vec());
    vec(prop_oneof![mark, vec(any::<u8>(), 0..4)], 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_rows_or_an_error(
        bytes in bytes(),
        name in prop::sample::select(vec!["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.parquet", "a"]),
        reading in prop::sample::select(READINGS.to_vec()),
        packed in 0..3,
        cut in 0..8usize,
    ) {
        let bytes = match packed {
            0 => bytes,
            1 => gz(&bytes),
            _ => zst(&bytes),
        };
        let dir = folder(&[(name, &bytes[..bytes.len().saturating_sub(cut)])]);
        survives(&dir, name, reading);
    }

    #[test]
    fn written_rows_read_back(
        bytes in bytes(),
        name in prop::sample::select(vec!["a.csv", "a.tsv", "a.jsonl", "a.txt"]),
        reading in prop::sample::select(READINGS.to_vec()),
    ) {
        let dir = folder(&[(name, bytes)]);
        let reading = [reading, &["--label", "none"]].concat();
        if let Ok(read) = rows(&dir, &[name], &reading) {
            let mut lines = Vec::new();
            open(&dir, &[name], &reading).unwrap().write_rows(&mut lines).unwrap();
            fs::write(dir.path().join("rows.jsonl"), lines).unwrap();
            let wanted: Vec<String> = read.into_iter().map(|row| row.text).collect();
            prop_assert_eq!(texts(&dir, &["rows.jsonl"], &["--text", "text"]), wanted);
        }
    }

    /// Every text is some UTF-8; lossy text is never refused.
    #[test]
    fn lossy_text_is_always_read(bytes in bytes()) {
        let dir = folder(&[("a.txt", [b"\n", &bytes[..]].concat())]);
        prop_assert!(survives(&dir, "a.txt", &["--lossy"]));
    }

    #[test]
    fn written_csv_reads_back(
        cells in vec(("[^\\x00\u{feff}]{0,12}", "[a\",\r\n\\\\ \\\\é]{0,12}"), 1..20),
        crlf: bool,
    ) {
        let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut out = csv::WriterBuilder::new().terminator(end).from_writer(Vec::new());
        out.write_record(["text", "more"]).unwrap();
        cells.iter().for_each(|(text, more)| out.write_record([text, more]).unwrap());
        let dir = folder(&[("a.csv", out.into_inner().unwrap())]);
        let read = rows(&dir, &["a.csv"], &["--text", "text", "--pair", "more"]).unwrap();
        let read: Vec<(String, String)> =
            read.into_iter().map(|row| (row.text, row.pair.unwrap())).collect();
        prop_assert_eq!(read, cells);
    }
}
