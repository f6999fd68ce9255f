//! Shards opened for training and evaluation: any number of segments, one list of sequences, one list of labels.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::header::Header;
use super::problem::Problem;
use super::segment::{Segment, View};
use super::stream::{Segments, segments};

/// Names of classes, each with its index; joined by name, never by number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    names: Vec<String>,
    index: HashMap<String, usize>,
}

impl Labels {
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut labels = Labels::default();
        for name in names {
            labels.add(&name);
        }
        labels
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(super) fn add(&mut self, name: &str) -> usize {
        if let Some(at) = self.find(name) {
            return at;
        }
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// The sequences of one or several shards, in order.
#[derive(Debug)]
pub struct Shard {
    segments: Vec<Segment>,
    /// Number of sequences before each segment, and in all.
    starts: Vec<usize>,
    labels: Labels,
    /// For each segment, its own label numbers in terms of `labels`.
    joined: Vec<Vec<usize>>,
}

impl Shard {
    /// Opens shards; `-` is standard input. Fails if their tokenizers, kinds or columns differ.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let parts: Result<Vec<Segments>> = paths.iter().map(|path| segments(path)).collect();
        Self::read(parts?)
    }

    /// The segments of all parts, under the same conditions.
    pub fn read(parts: impl IntoIterator<Item = Segments>) -> Result<Self> {
        let mut all = Vec::new();
        for mut part in parts {
            while let Some(segment) = part.next().transpose()? {
                let first = all.first().unwrap_or(&segment);
                agree(first, &segment).with_context(|| part.name().to_owned())?;
                all.push(segment);
            }
        }
        Self::from_segments(all)
    }

    /// Opens one file; its name is in every error.
    pub fn open_one(path: &Path) -> Result<Self> {
        Self::open(&[path.to_owned()])
    }

    pub fn from_segments(segments: Vec<Segment>) -> Result<Self> {
        ensure!(!segments.is_empty(), "no shard given");
        let mut starts = vec![0];
        let mut labels = Labels::default();
        let mut joined = Vec::new();
        for segment in &segments {
            starts.push(starts[starts.len() - 1] + segment.len());
            joined.push(segment.labels().iter().map(|name| labels.add(name)).collect());
        }
        if segments[0].problem() == Problem::Regression {
            // As transformers calls the one output of such a model.
            labels.add("LABEL_0");
        }
        Ok(Self { segments, starts, labels, joined })
    }

    pub fn len(&self) -> usize {
        self.starts[self.segments.len()]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header of the first segment: tokenizer, vocabulary and special tokens are the same in all.
    pub fn header(&self) -> &Header {
        self.segments[0].header()
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn is_masked(&self) -> bool {
        self.segments[0].masked_by().is_some()
    }

    pub fn is_labelled(&self) -> bool {
        self.segments[0].is_labelled()
    }

    /// Names of all classes, in order of the first segment that names them.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The segment of sequence `i`, and its number there.
    fn place(&self, i: usize) -> (usize, usize) {
        let at = self.starts.partition_point(|&start| start <= i) - 1;
        (at, i - self.starts[at])
    }

    /// Sequence `i`, its label in terms of `labels()`. Panics beyond `len`.
    pub fn view(&self, i: usize) -> View<'_> {
        let (at, i) = self.place(i);
        let mut view = self.segments[at].view(i);
        view.label = view.label.map(|label| self.joined[at][label]);
        view
    }

    /// What its labels are; classes where it has none.
    pub fn problem(&self) -> Problem {
        self.segments[0].problem()
    }

    /// The label of sequence `i` as a writer takes it, if it has one.
    pub fn label(&self, i: usize) -> Option<String> {
        let (at, i) = self.place(i);
        match self.segments[at].label(i) {
            Value::Null => None,
            Value::String(name) => Some(name),
            other => Some(other.to_string()),
        }
    }

    /// The numbers to predict of sequence `i`: one, or 1 and 0 for the classes of `labels()` it has and has not.
    pub fn numbers(&self, i: usize) -> Vec<f32> {
        let (at, i) = self.place(i);
        let own = self.segments[at].numbers(i);
        if self.problem() != Problem::MultiLabel {
            return own.collect();
        }
        let mut all = vec![0.0; self.labels.names().len()];
        self.joined[at].iter().zip(own).for_each(|(&class, is_set)| all[class] = is_set);
        all
    }

    /// The sequences of each text, in order: one, or where texts are in windows, those side by side of one row.
    pub fn windows(&self) -> Vec<Range<usize>> {
        let mut texts: Vec<Range<usize>> = Vec::new();
        for (segment, &start) in self.segments.iter().zip(&self.starts) {
            let windows = segment.header().stride.is_some();
            for i in 0..segment.len() {
                let goes_on = windows && i > 0 && segment.row(i) == segment.row(i - 1);
                match texts.last_mut().filter(|_| goes_on) {
                    Some(text) => text.end += 1,
                    None => texts.push(start + i..start + i + 1),
                }
            }
        }
        texts
    }

    /// Sequences side by side that are masked in one go, and which: the epoch and the draw.
    pub fn draws(&self) -> Vec<((u64, u64), Range<usize>)> {
        let mut all: Vec<((u64, u64), Range<usize>)> = Vec::new();
        for (segment, &start) in self.segments.iter().zip(&self.starts) {
            let own = segment.masked_by().map_or((0, 0), |by| (by.epoch, by.draw));
            let end = start + segment.len();
            match all.last_mut().filter(|(last, _)| *last == own) {
                Some((_, range)) => range.end = end,
                None => all.push((own, start..end)),
            }
        }
        all
    }

    /// sha256 over the bytes of every segment, hexadecimal.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        self.segments.iter().for_each(|segment| hash.update(segment.bytes()));
        format!("{:x}", hash.finalize())
    }

    /// Hashes of the texts it was made of; none if one of its segments does not say.
    pub fn texts(&self) -> Option<Vec<u64>> {
        let mut all = Vec::new();
        for segment in self.segments.iter().filter(|segment| !segment.is_empty()) {
            all.extend(segment.texts()?);
        }
        Some(all)
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        (0..self.len()).map(|i| self.view(i).tokens.len()).max().unwrap_or(0)
    }

    /// Sequences, tokens, and tokens of the longest sequence: the same in every epoch of a masked stream.
    pub fn sizes(&self) -> [usize; 3] {
        [self.len(), self.tokens(), self.longest()]
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.segments.iter().map(|segment| segment.tokens().len()).sum()
    }
}

/// What has to be the same in every segment that is read as one shard.
pub fn agree(first: &Segment, other: &Segment) -> Result<()> {
    let (a, b) = (first.header(), other.header());
    ensure!(
        a.tokenizer == b.tokenizer && a.vocab_size == b.vocab_size,
        "written with another tokenizer ({:.12} against {:.12}) than what came before it",
        b.tokenizer,
        a.tokenizer
    );
    let kind = |s: &Segment| if s.masked_by().is_some() { "masked" } else { "not masked" };
    ensure!(kind(first) == kind(other), "{}, unlike what came before it", kind(other));
    let masking = |s: &Segment| s.masked_by().map(|by| by.masking.clone());
    ensure!(
        masking(first) == masking(other),
        "masked with another --prob, --replace, --unit or --exact than what came before it"
    );
    let pairs = |s: &Segment| if s.is_pairs() { "pairs" } else { "single texts" };
    ensure!(pairs(first) == pairs(other), "{}, unlike what came before it", pairs(other));
    let labelled = |s: &Segment| if s.is_labelled() { "labelled" } else { "not labelled" };
    ensure!(labelled(first) == labelled(other), "{}, unlike what came before it", labelled(other));
    let (own, others) = (first.problem().name(), other.problem().name());
    ensure!(own == others, "labels for {others}, unlike what came before it, for {own}");
    Ok(())
}
