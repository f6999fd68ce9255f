//! Any bytes as CSV, TSV, JSON lines or text: an error, or rows that read the same when they are written as JSON lines.
#![no_main]

use clap::Parser;
use libfuzzer_sys::{Corpus, fuzz_target};
use plain::data::{Format, Reading, records, text_lines};
use serde_json::{Map, Value};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    reading: Reading,
}

/// The first byte says how the others are read.
const READINGS: [&str; 8] = [
    "--format csv",
    "--format csv --lossy --skip-bad",
    "--format csv --no-header",
    "--format tsv",
    "--format tsv --no-header --lossy",
    "--format jsonl",
    "--format text --lossy",
    "--format text --documents paragraph",
];

thread_local! {
    static ALL: [Reading; READINGS.len()] = READINGS.map(|flags| {
        Args::parse_from(["fuzz"].into_iter().chain(flags.split(' '))).reading
    });
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&first, bytes)) = data.split_first() else { return Corpus::Reject };
    // Compressed, a few bytes stand for gigabytes of text.
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Corpus::Reject;
    }
    text_lines("fuzz", bytes).for_each(drop);
    let read = ALL.with(|all| cells(bytes, &all[usize::from(first) % all.len()]));
    let line = |cells| serde_json::to_string(cells).unwrap() + "\n";
    let lines: String = read.iter().map(line).collect();
    let jsonl = Reading { format: Some(Format::Jsonl), ..Reading::default() };
    assert_eq!(cells(lines.as_bytes(), &jsonl), read);
    Corpus::Keep
});

/// Every row up to the first error of the file; those that cannot be read left out.
fn cells(bytes: &[u8], reading: &Reading) -> Vec<Map<String, Value>> {
    let Ok(records) = records(&[fuzz::file("rows", bytes)], reading) else { return Vec::new() };
    let mut last = 0;
    let cells = records.map_while(Result::ok).filter_map(|record| {
        // A line of CSV may have several rows: CR ends one, too.
        assert!(record.line >= last, "line {} after {last}", record.line);
        last = record.line;
        record.cells.ok()
    });
    cells.collect()
}
