//! Writing segments, one at a time, to any stream.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::json;

use super::header::{Header, Meta};
use super::ints::{self, width};
use super::masking::{MaskedSequence, Masker};
use super::open::Labels;
use super::segment::Segment;
use crate::flags::fault;

/// Tokens after which a segment is closed: 32 MiB of ids, so that a pipe moves and memory stays bounded.
const SEGMENT: usize = 1 << 24;

/// One sequence to write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    pub tokens: Vec<u32>,
    /// As long as `tokens`: true where a word begins.
    pub words: Vec<bool>,
    pub second: Option<u16>,
    pub label: Option<String>,
    pub row: u64,
}

/// Collects sequences and writes them as segments.
pub struct Writer<W> {
    out: W,
    header: Header,
    names: Option<Labels>,
    pending: Vec<Sequence>,
    texts: Vec<u8>,
    /// Of texts no sequence has come from yet: they go into the segment of their first.
    coming: Vec<u8>,
    tokens: usize,
    written: bool,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, header: Header) -> Self {
        let (pending, texts, coming) = (Vec::new(), Vec::new(), Vec::new());
        Self { out, header, names: None, pending, texts, coming, tokens: 0, written: false }
    }

    /// Fixes the label names and their order. Without it a segment lists the names it meets, sorted.
    pub fn labels(mut self, names: Vec<String>) -> Self {
        self.names = Some(Labels::new(names));
        self
    }

    /// Names the text, and the second text of a pair, that the next sequences are made of, by their hashes.
    pub fn texts(&mut self, (text, pair): (u64, Option<u64>)) {
        self.coming.extend(text.to_le_bytes());
        self.coming.extend(pair.iter().flat_map(|hash| hash.to_le_bytes()));
    }

    /// Fails where the sequence does not fit the header, or has a label where others have none.
    pub fn push(&mut self, sequence: Sequence) -> Result<()> {
        let row = sequence.row;
        ensure!(!sequence.tokens.is_empty(), "row {row}: no tokens");
        ensure!(sequence.tokens.len() == sequence.words.len(), "row {row}: word bits are missing");
        let second = usize::from(sequence.second.unwrap_or(0));
        ensure!(second <= sequence.tokens.len(), "row {row}: its second text begins past its end");
        let largest = sequence.tokens.iter().max().copied().unwrap_or(0);
        ensure!(
            largest < self.header.vocab_size,
            "row {row}: token {largest} is not in the vocabulary"
        );
        if let Some(first) = self.pending.first() {
            let same = first.label.is_some() == sequence.label.is_some();
            let (with, without) =
                if first.label.is_some() { (first.row, row) } else { (row, first.row) };
            let cause = || {
                format!("row {without} has no label, and row {with} has one (rows count from 0)")
            };
            ensure!(same, fault(cause(), "--label none leaves labels out"));
            let same = first.second.is_some() == sequence.second.is_some();
            ensure!(same, "row {row}: some rows are pairs and others are not");
        }
        // The sequences of a row stay in one segment: elsewhere equal rows say nothing.
        let goes_on = self.pending.last().is_some_and(|last| last.row == row);
        if self.tokens >= SEGMENT && !goes_on {
            self.flush()?;
        }
        self.texts.append(&mut self.coming);
        self.tokens += sequence.tokens.len();
        self.pending.push(sequence);
        Ok(())
    }

    /// Writes what is left; a shard without sequences still gets one segment.
    pub fn finish(mut self) -> Result<W> {
        self.texts.append(&mut self.coming);
        if !self.pending.is_empty() || !self.written {
            self.flush()?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.tokens = 0;
        self.written = true;
        let labels = match pending.first() {
            Some(first) if first.label.is_some() => Some(self.label_names(&pending)),
            _ => None,
        };
        let columns = Columns::new(&pending, width(self.header.vocab_size), labels.as_ref())?;
        let labels = labels.map(|labels| labels.names().to_vec());
        let meta = Meta { header: self.header.clone(), labels, masked: None };
        let texts = std::mem::take(&mut self.texts);
        let mut tensors = columns.tensors(width(self.header.vocab_size));
        if !texts.is_empty() {
            tensors.insert(0, ("texts", Dtype::U64, texts.len() / 8, &texts));
        }
        write_segment(&mut self.out, &meta, &tensors)
    }

    fn label_names(&self, sequences: &[Sequence]) -> Labels {
        self.names.clone().unwrap_or_else(|| {
            let mut names: Vec<_> = sequences.iter().filter_map(|s| s.label.clone()).collect();
            names.sort_unstable_by(|a, b| by_number(a).cmp(&by_number(b)).then_with(|| a.cmp(b)));
            names.dedup();
            Labels::new(names)
        })
    }
}

/// Sorts "2" before "10", and numbers before words.
fn by_number(name: &str) -> (bool, i64) {
    name.parse().map_or((true, 0), |number| (false, number))
}

/// The tensors of a segment, as bytes.
#[derive(Default)]
struct Columns {
    tokens: Vec<u8>,
    offsets: Vec<u8>,
    second: Vec<u8>,
    labels: Vec<u8>,
    words: Vec<u8>,
    rows: Vec<u8>,
}

impl Columns {
    fn new(sequences: &[Sequence], width: usize, labels: Option<&Labels>) -> Result<Self> {
        let mut columns = Self { offsets: vec![0; 8], ..Default::default() };
        let mut t = 0;
        for sequence in sequences {
            for (&token, &word) in sequence.tokens.iter().zip(&sequence.words) {
                ints::push(&mut columns.tokens, token, width);
                if t % 8 == 0 {
                    columns.words.push(0);
                }
                columns.words[t / 8] |= u8::from(word) << (t % 8);
                t += 1;
            }
            columns.offsets.extend((t as u64).to_le_bytes());
            columns.rows.extend(sequence.row.to_le_bytes());
            columns.second.extend(sequence.second.iter().flat_map(|second| second.to_le_bytes()));
            if let (Some(labels), Some(name)) = (labels, &sequence.label) {
                let label = labels.find(name);
                let Some(label) = label else {
                    bail!("row {}: unknown label {name:?}", sequence.row)
                };
                columns.labels.extend((label as i64).to_le_bytes());
            }
        }
        Ok(columns)
    }

    fn tensors(&self, width: usize) -> Vec<(&'static str, Dtype, usize, &[u8])> {
        let n = self.rows.len() / 8;
        let mut tensors = vec![
            ("offsets", Dtype::U64, n + 1, &self.offsets[..]),
            ("rows", Dtype::U64, n, &self.rows[..]),
        ];
        if !self.labels.is_empty() {
            tensors.push(("labels", Dtype::I64, n, &self.labels[..]));
        }
        tensors.push(("tokens", id_dtype(width), self.tokens.len() / width, &self.tokens[..]));
        if !self.second.is_empty() {
            tensors.push(("second", Dtype::U16, n, &self.second[..]));
        }
        tensors.push(("words", Dtype::U8, self.words.len(), &self.words[..]));
        tensors
    }
}

fn id_dtype(width: usize) -> Dtype {
    if width == 2 { Dtype::U16 } else { Dtype::U32 }
}

/// Masks `segment` and writes it; `first` is the number of its first sequence within the epoch.
pub fn write_masked(
    out: &mut impl Write,
    segment: &Segment,
    masker: &Masker,
    first: u64,
) -> Result<()> {
    ensure!(segment.masked_by().is_none(), "it is masked already");
    let width = width(segment.header().vocab_size);
    let sequences: Vec<MaskedSequence> = (0..segment.len())
        .into_par_iter()
        .map(|i| masker.mask(&segment.view(i), first + i as u64))
        .collect();
    let (mut tokens, mut masked, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (i, sequence) in sequences.iter().enumerate() {
        let start = u32::try_from(segment.range(i).start).context("segment too long to mask")?;
        sequence.tokens.iter().for_each(|&id| ints::push(&mut tokens, id, width));
        sequence.targets.iter().for_each(|&id| ints::push(&mut targets, id, width));
        sequence.masked.iter().for_each(|&at| ints::push(&mut masked, start + at, 4));
    }
    let m = masked.len() / 4;
    let mut tensors = segment.kept();
    tensors.push(("masked", Dtype::U32, m, &masked));
    tensors.push(("tokens", id_dtype(width), tokens.len() / width, &tokens));
    tensors.push(("targets", id_dtype(width), m, &targets));
    tensors.sort_by_key(|(_, dtype, ..)| std::cmp::Reverse(dtype.bitsize()));
    let meta = Meta { masked: Some(masker.by().clone()), ..segment.meta().clone() };
    write_segment(out, &meta, &tensors)
}

/// One safetensors blob: length, header padded to 8 bytes, tensors in the order given.
fn write_segment(
    out: &mut impl Write,
    meta: &Meta,
    tensors: &[(&str, Dtype, usize, &[u8])],
) -> Result<()> {
    let mut header = BTreeMap::from([("__metadata__", json!(meta.to_map()?))]);
    let mut at = 0;
    for (name, dtype, len, bytes) in tensors {
        let end = at + bytes.len();
        header.insert(name, json!({"dtype": dtype, "shape": [len], "data_offsets": [at, end]}));
        at = end;
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    out.write_all(&(json.len() as u64).to_le_bytes())?;
    out.write_all(&json)?;
    tensors.iter().try_for_each(|(.., bytes)| out.write_all(bytes))?;
    Ok(())
}
