//! Shards made to harm: each is refused, and the error says why.

use serde_json::{Value, json};

use super::*;

/// A masked shard of labelled pairs with 2-byte ids: every tensor there is.
fn full() -> (Value, Vec<u8>) {
    let tokens = |n: u32| (0..n).map(|t| 5 + t).collect();
    let label = |i: u32| Some(["a", "b"][i as usize % 2].to_owned());
    let sequence = |i: u32| Sequence {
        tokens: tokens(8 + i),
        words: vec![true; 8 + i as usize],
        second: Some(4),
        label: label(i),
        row: i.into(),
    };
    let plain = write(&header(100), &(0..4).map(sequence).collect::<Vec<_>>());
    let bytes = masked(&plain, &by(1, 0, 0.5));
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn blob(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Both ways of reading refuse the bytes, for the reason given.
#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    for read in [read(bytes), read_mapped(bytes)] {
        let error = format!("{:#}", read.map(|all| all.len()).unwrap_err());
        assert!(error.contains(why), "{error:?} does not say {why:?}");
    }
}

#[track_caller]
fn refused_header(change: impl Fn(&mut Value), why: &str) {
    let (mut header, data) = full();
    change(&mut header);
    refused(&blob(&header.to_string(), &data), why);
}

/// Overwrites one entry of a tensor.
#[track_caller]
fn refused_entry(tensor: &str, at: usize, entry: &[u8], why: &str) {
    let (header, mut data) = full();
    let from = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + at * entry.len();
    data[from..from + entry.len()].copy_from_slice(entry);
    refused(&blob(&header.to_string(), &data), why);
}

#[test]
fn hostile_lengths_are_refused() {
    refused(&u64::MAX.to_le_bytes(), "its header would have 18446744073709551615 bytes");
    refused(&100_000_001u64.to_le_bytes(), "the limit is 100000000");
    refused(&99_999_999u64.to_le_bytes(), "cut off");
    refused(&[1, 2, 3], "too short");
    refused(b"", "empty");
    refused(b"plain text, not a shard", "not a token shard (its header would have ");
    let (header, data) = full();
    let bytes = blob(&header.to_string(), &data);
    refused(&bytes[..bytes.len() - 1], "cut off");
    refused(&[&bytes[..], &bytes[..5]].concat(), "cut off");
    refused(
        &[&bytes[..], b"and then some text"].concat(),
        &format!("segment at byte {}", bytes.len()),
    );
}

#[test]
fn hostile_headers_are_refused() {
    refused(&blob("[]", &[]), "not a token shard");
    refused(&blob("{}", &[]), "its format is \"none\"");
    refused(&blob(&"[".repeat(100_000), &[]), "not a token shard");
    let huge = json!([1u64 << 33, 1u64 << 33]);
    refused_header(|h| h["tokens"]["shape"] = huge.clone(), "not a token shard");
    refused_header(|h| h["tokens"]["shape"] = json!([u64::MAX]), "not a token shard");
    refused_header(|h| h["tokens"]["shape"] = json!([2, 19]), "tensor `tokens` has shape [2, 19]");
    refused_header(|h| h["offsets"]["data_offsets"] = json!([0, 1u64 << 40]), "not a token shard");
    refused_header(|h| h["offsets"]["data_offsets"] = json!([-8, 0]), "not a token shard");
    refused_header(|h| h["tokens"]["dtype"] = json!("I16"), "tensor `tokens` is I16, not U16");
    refused_header(|h| h["tokens"]["dtype"] = json!("X16"), "not a token shard");
    refused_header(
        |h| h["labels"]["dtype"] = json!("U64"),
        "tensor `labels` is U64 of shape [4], not I64",
    );
    let (header, data) = full();
    let twice = header.to_string().replacen('{', &format!("{{\"tokens\":{},", header["tokens"]), 1);
    refused(&blob(&twice, &data), "it names `tokens` twice");
}

#[test]
fn hostile_metadata_is_refused() {
    let set = |key: &'static str, value: &'static str| {
        move |h: &mut Value| h["__metadata__"][key] = json!(value)
    };
    refused_header(set("format", "pt"), "its format is \"pt\"");
    refused_header(set("version", "2"), "shard version \"2\"");
    refused_header(set("kind", "other"), "shard kind \"other\"");
    refused_header(set("vocab_size", "-1"), "metadata `vocab_size`");
    refused_header(set("vocab_size", "20"), "tensor `tokens`: id");
    refused_header(set("vocab_size", "4"), "metadata `special`: id 4 in a vocabulary of 4");
    refused_header(set("vocab_size", "4294967295"), "tensor `tokens` is U16, not U32");
    refused_header(set("special", "{}"), "metadata `special`: missing field");
    refused_header(set("labels", "[\"a\"]"), "tensor `labels`: 1 has no name");
    refused_header(set("labels", "7"), "metadata `labels`");
    refused_header(set("unit", "page"), "metadata `unit`");
    refused_header(set("prob", "x"), "metadata `prob`");
    let gone = |key: &'static str| {
        move |h: &mut Value| drop(h["__metadata__"].as_object_mut().unwrap().remove(key))
    };
    for key in [
        "version",
        "kind",
        "tokenizer",
        "vocab_size",
        "special",
        "max_length",
        "source",
        "command",
        "seed",
    ] {
        refused_header(gone(key), &format!("metadata `{key}` is missing"));
    }
    refused_header(gone("labels"), "tensor `labels`: 0 has no name");
}

#[test]
fn hostile_entries_are_refused() {
    let big = 10_000u32.to_le_bytes();
    refused_entry(
        "tokens",
        0,
        &100u16.to_le_bytes(),
        "tensor `tokens`: id 100 in a vocabulary of 100",
    );
    refused_entry("targets", 0, &u16::MAX.to_le_bytes(), "tensor `targets`: id 65535");
    refused_entry("offsets", 0, &1u64.to_le_bytes(), "tensor `offsets`: entry 0");
    refused_entry("offsets", 2, &u64::MAX.to_le_bytes(), "tensor `offsets`: entry 3");
    refused_entry("offsets", 2, &8u64.to_le_bytes(), "tensor `offsets`: entry 2");
    refused_entry(
        "offsets",
        4,
        &39u64.to_le_bytes(),
        "tensor `offsets` ends at 39, but there are 38 tokens",
    );
    refused_entry(
        "second",
        1,
        &10u16.to_le_bytes(),
        "tensor `second`: entry 1 is past its sequence",
    );
    refused_entry("labels", 3, &2u64.to_le_bytes(), "tensor `labels`: 2 has no name");
    refused_entry("labels", 3, &(-1i64).to_le_bytes(), "tensor `labels`: -1 has no name");
    refused_entry("masked", 0, &big, "tensor `masked`: position 10000 is out of order or range");
    refused_entry(
        "masked",
        1,
        &0u32.to_le_bytes(),
        "tensor `masked`: position 0 is out of order or range",
    );
}
