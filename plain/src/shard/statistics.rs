//! Counts over the sequences of a shard, and over its masks as they turned out.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde_json::{Value, json};

use super::masking::word::words;
use super::segment::{Segment, View};

/// Counts over segments.
#[derive(Debug, Default)]
pub struct Statistics {
    sequences: u64,
    tokens: u64,
    special: u64,
    words: u64,
    shortest: Option<usize>,
    longest: usize,
    labels: BTreeMap<String, u64>,
    masks: Option<Masks>,
}

/// Counts over masks.
#[derive(Debug, Default)]
struct Masks {
    masked: u64,
    /// Masked tokens that show the mask token, another token, the token itself.
    shown: [u64; 3],
    /// Words of which all tokens are masked, and of which some are.
    whole: u64,
    part: u64,
    /// Sequences with no token masked.
    without: u64,
    /// Runs of masked tokens, by length in tokens, and the words in them.
    runs: BTreeMap<usize, u64>,
    run_words: u64,
}

impl Statistics {
    /// Counts the sequences of `segment` too.
    pub fn add(&mut self, segment: &Segment) {
        let special: HashSet<u32> = segment.header().special.all.iter().copied().collect();
        for i in 0..segment.len() {
            let view = segment.view(i);
            let original = original(&view);
            let words = words(&view, &original, |id| special.contains(&id));
            self.sequences += 1;
            self.tokens += original.len() as u64;
            self.special += original.iter().filter(|id| special.contains(id)).count() as u64;
            self.words += words.len() as u64;
            self.shortest = Some(self.shortest.unwrap_or(usize::MAX).min(original.len()));
            self.longest = self.longest.max(original.len());
            match segment.label(i) {
                Value::String(name) => self.count(&name),
                Value::Array(names) => {
                    names.iter().filter_map(Value::as_str).for_each(|name| self.count(name));
                }
                _ => {}
            }
            if segment.masked_by().is_some() {
                let masks = self.masks.get_or_insert_default();
                masks.add(&view, &words, segment.header().special.mask);
            }
        }
    }

    fn count(&mut self, label: &str) {
        *self.labels.entry(label.to_owned()).or_default() += 1;
    }

    /// As `peek --stats` shows them.
    pub fn to_json(&self) -> Value {
        let mut all = json!({
            "sequences": self.sequences, "tokens": self.tokens, "special": self.special, "words": self.words,
            "lengths": {"shortest": self.shortest, "mean": share(self.tokens, self.sequences), "longest": self.longest},
        });
        if !self.labels.is_empty() {
            all["labels"] = json!(self.labels);
        }
        if let Some(masks) = &self.masks {
            all["masks"] = masks.to_json(self.tokens - self.special, self.words);
        }
        all
    }
}

impl Masks {
    fn add(&mut self, view: &View, words: &[Range<usize>], mask: Option<u32>) {
        let at: Vec<usize> = view.masked().collect();
        self.masked += at.len() as u64;
        self.without += u64::from(at.is_empty());
        for (&at, target) in at.iter().zip(view.targets.iter()) {
            let now = view.tokens.get(at);
            let fate = if Some(now) == mask { 0 } else { 1 + usize::from(now == target) };
            self.shown[fate] += 1;
        }
        let mut hidden = vec![false; view.tokens.len()];
        at.iter().for_each(|&at| hidden[at] = true);
        for word in words {
            let count = hidden[word.clone()].iter().filter(|&&hidden| hidden).count();
            self.whole += u64::from(count == word.len());
            self.part += u64::from(count > 0 && count < word.len());
            self.run_words += u64::from(count > 0);
        }
        for run in at.chunk_by(|a, b| a + 1 == *b) {
            *self.runs.entry(run.len()).or_default() += 1;
        }
    }

    fn to_json(&self, maskable: u64, words: u64) -> Value {
        let [mask, random, same] = self.shown.map(|count| share(count, self.masked));
        let runs: u64 = self.runs.values().sum();
        let lengths: serde_json::Map<_, _> =
            self.runs.iter().map(|(length, count)| (length.to_string(), json!(count))).collect();
        json!({
            "masked": self.masked, "share": share(self.masked, maskable), "sequences_without": self.without,
            "shown": {"mask": mask, "random": random, "same": same},
            "words": {"whole": self.whole, "part": self.part, "share": share(self.whole + self.part, words)},
            "runs": {"count": runs, "tokens": share(self.masked, runs), "words": share(self.run_words, runs),
                "lengths": lengths},
        })
    }
}

/// The tokens as they stood before they were masked.
fn original(view: &View) -> Vec<u32> {
    let mut tokens: Vec<u32> = view.tokens.iter().collect();
    view.masked().zip(view.targets.iter()).for_each(|(at, target)| tokens[at] = target);
    tokens
}

/// A share, or a mean; 0 of nothing.
fn share(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}
