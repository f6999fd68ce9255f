//! Writing segments, one at a time, to any stream.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::json;

use super::columns::{Column, Columns, id_dtype};
use super::header::{Header, Meta};
use super::ints::{self, width};
use super::masking::{MaskedSequence, Masker};
use super::open::Labels;
use super::problem::Problem;
use super::segment::Segment;
use crate::flags::fault;

/// Tokens after which a segment is closed: 8 MiB of ids, so that a pipe moves and memory stays bounded.
const SEGMENT: usize = 1 << 22;

/// One sequence to write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    pub tokens: Vec<u32>,
    /// As long as `tokens`: true where a word begins.
    pub words: Vec<bool>,
    pub second: Option<u16>,
    /// The name of its class; the names of its classes as a JSON list, or its number, where the writer is told so.
    pub label: Option<String>,
    pub row: u64,
}

/// Collects sequences and writes them as segments.
pub struct Writer<W> {
    out: W,
    header: Header,
    names: Option<Labels>,
    columns: Columns,
    /// The first sequence of the segment: its row, whether it has a label, whether it is a pair.
    first: Option<(u64, bool, bool)>,
    /// The row of the last one.
    last: Option<u64>,
    texts: Vec<u8>,
    /// Of texts no sequence has come from yet: they go into the segment of their first.
    coming: Vec<u8>,
    written: bool,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, header: Header) -> Self {
        let columns = Columns::new(width(header.vocab_size));
        let (first, last, texts, coming) = (None, None, Vec::new(), Vec::new());
        Self { out, header, names: None, columns, first, last, texts, coming, written: false }
    }

    /// Fixes the label names and their order. Without it a segment lists the names it meets, sorted.
    pub fn labels(mut self, names: Vec<String>) -> Self {
        self.names = Some(Labels::new(names));
        self
    }

    /// What the labels are, classes otherwise.
    pub fn problem(mut self, problem: Problem) -> Self {
        self.columns = self.columns.of(problem);
        self
    }

    /// Names the text, and the second text of a pair, that the next sequences are made of, by their hashes.
    pub fn texts(&mut self, (text, pair): (u64, Option<u64>)) {
        self.coming.extend(text.to_le_bytes());
        self.coming.extend(pair.iter().flat_map(|hash| hash.to_le_bytes()));
    }

    /// Fails where the sequence does not fit the header, or has a label where others have none.
    pub fn push(&mut self, sequence: Sequence) -> Result<()> {
        self.check(&sequence)?;
        // The sequences of a row stay in one segment: elsewhere equal rows say nothing.
        if self.columns.len() >= SEGMENT && self.last != Some(sequence.row) {
            self.flush()?;
        }
        self.texts.append(&mut self.coming);
        let Sequence { row, label, second, .. } = &sequence;
        self.first.get_or_insert((*row, label.is_some(), second.is_some()));
        self.last = Some(*row);
        self.columns.push(&sequence, self.names.as_ref())
    }

    fn check(&self, sequence: &Sequence) -> Result<()> {
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
        let Some((first, labelled, pairs)) = self.first else { return Ok(()) };
        let (with, without) = if labelled { (first, row) } else { (row, first) };
        let cause =
            || format!("row {without} has no label, and row {with} has one (rows count from 0)");
        let cure = match self.columns.problem() {
            Problem::MultiLabel => "an empty list says that a text has none of the labels",
            _ => "--label none leaves labels out",
        };
        ensure!(labelled == sequence.label.is_some(), fault(cause(), cure));
        let same = pairs == sequence.second.is_some();
        ensure!(same, "row {row}: some rows are pairs and others are not");
        Ok(())
    }

    /// Writes what is left; a shard without sequences still gets one segment.
    pub fn finish(mut self) -> Result<W> {
        self.texts.append(&mut self.coming);
        if self.first.is_some() || !self.written {
            self.flush()?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush(&mut self) -> Result<()> {
        let columns = Columns::new(width(self.header.vocab_size)).of(self.columns.problem());
        let columns = std::mem::replace(&mut self.columns, columns);
        let is_labelled = self.first.is_some_and(|(_, labelled, _)| labelled);
        let labels = is_labelled.then(|| columns.labels(self.names.as_ref()));
        let names = labels.as_ref().and_then(|labels| labels.names.clone());
        let meta = Meta { header: self.header.clone(), labels: names, masked: None };
        let texts = std::mem::take(&mut self.texts);
        (self.first, self.last, self.written) = (None, None, true);
        let mut tensors = columns.tensors(labels.as_ref());
        if !texts.is_empty() {
            tensors.insert(0, ("texts", Dtype::U64, vec![texts.len() / 8], &texts));
        }
        write_segment(&mut self.out, &meta, &tensors)
    }
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
    tensors.push(("masked", Dtype::U32, vec![m], &masked));
    tensors.push(("tokens", id_dtype(width), vec![tokens.len() / width], &tokens));
    tensors.push(("targets", id_dtype(width), vec![m], &targets));
    tensors.sort_by_key(|(_, dtype, ..)| std::cmp::Reverse(dtype.bitsize()));
    let meta = Meta { masked: Some(masker.by().clone()), ..segment.meta().clone() };
    write_segment(out, &meta, &tensors)
}

/// One safetensors blob: length, header padded to 8 bytes, tensors in the order given.
fn write_segment(out: &mut impl Write, meta: &Meta, tensors: &[Column]) -> Result<()> {
    let mut header = BTreeMap::from([("__metadata__", json!(meta.to_map()?))]);
    let mut at = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = at + bytes.len();
        header.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    out.write_all(&(json.len() as u64).to_le_bytes())?;
    out.write_all(&json)?;
    tensors.iter().try_for_each(|(.., bytes)| out.write_all(bytes))?;
    Ok(())
}
