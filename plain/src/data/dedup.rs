//! Rows that repeat an earlier one. What is kept of a row is 24 bytes, and for `near` about a kilobyte more, whatever
//! the length of its text; nothing depends on the number of threads.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Example;
use super::batches::next;
use super::columns::{Row, Rows};
use super::near::{Near, Sketch, words};
use crate::flags::usage;

/// Which rows count as repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Repeats {
    /// Those with the same text, but for case and white space
    Exact,
    /// Those whose words and neighbouring pairs of words agree, too
    Near,
}

/// What counts as a repeated row, as flags.
#[derive(Debug, Clone, clap::Args)]
pub struct DedupArgs {
    /// Drop rows whose text (of pairs, both texts) an earlier row has, before anything is split off: `exact`, but for
    /// case and white space, or `near`, those of similar words too
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "exact")]
    pub dedup: Option<Repeats>,

    /// What `near` means, here and in --against: the share of the words and pairs of neighbouring words of two texts
    /// that both have (Jaccard, from MinHash, give or take 0.04) [default: 0.8]
    #[arg(long, value_name = "SHARE", value_parser = similarity)]
    pub similarity: Option<f64>,
}

fn similarity(text: &str) -> Result<f64, String> {
    let share = crate::flags::share(text)?;
    if share >= 0.1 { Ok(share) } else { Err("it must lie in 0.1 to 1".into()) }
}

/// A row as far as repetition goes.
#[derive(Debug, Clone)]
pub struct Print {
    /// Hash of the normalised text, and of the second text of a pair.
    pub texts: (u64, Option<u64>),
    pub sketch: Option<Sketch>,
}

impl Print {
    pub fn of(example: &Example, near: bool) -> Self {
        let sketch = near.then(|| {
            let mut all = words(&example.text);
            all.extend(example.pair.as_deref().map(words).unwrap_or_default());
            Sketch::of(&all)
        });
        Self { texts: example.hashes(), sketch: sketch.flatten() }
    }
}

/// Rows met, to be found again.
#[derive(Debug)]
pub struct Seen {
    exact: HashMap<(u64, Option<u64>), u32>,
    near: Option<Near>,
}

/// How a row was met before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    Exact(u32),
    /// Which row, and how similar it is.
    Near(u32, f64),
}

impl Seen {
    /// Finds near repetitions too where a threshold is given.
    pub fn new(threshold: Option<f64>) -> Self {
        Self { exact: HashMap::new(), near: threshold.map(Near::new) }
    }

    pub fn find(&self, print: &Print) -> Option<Found> {
        if let Some(&at) = self.exact.get(&print.texts) {
            return Some(Found::Exact(at));
        }
        let (near, sketch) = self.near.as_ref().zip(print.sketch.as_ref())?;
        near.find(sketch).map(|(at, similarity)| Found::Near(at, similarity))
    }

    /// Adds a row under the name `at`; of rows with the same text the first stays.
    pub fn insert(&mut self, print: Print, at: u32) {
        let mut new = false;
        self.exact.entry(print.texts).or_insert_with(|| {
            new = true;
            at
        });
        if let (true, Some(near), Some(sketch)) = (new, &mut self.near, print.sketch) {
            near.insert(sketch, at);
        }
    }
}

/// Counts of what was dropped, complete once the rows have been read.
#[derive(Debug, Default)]
pub struct Dropped {
    rows: AtomicU64,
    exact: AtomicU64,
    near: AtomicU64,
    contrary: AtomicU64,
}

impl Dropped {
    pub fn to_json(&self) -> Value {
        let [rows, exact, near, contrary] =
            [&self.rows, &self.exact, &self.near, &self.contrary].map(|count| count.load(Relaxed));
        json!({"rows": rows, "exact": exact, "near": near, "other_label": contrary})
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [rows, exact, near, contrary] =
            [&self.rows, &self.exact, &self.near, &self.contrary].map(|count| count.load(Relaxed));
        write!(f, "dedup: dropped {} of {rows} rows, {exact} exact", exact + near)?;
        write!(f, " and {near} near; {contrary} of them had another label than the row kept")
    }
}

/// Tells rows that repeat a kept one, as they pass.
pub struct Dedup {
    seen: Seen,
    near: bool,
    /// The label of each row kept, as a number.
    labels: Vec<u32>,
    names: HashMap<Option<String>, u32>,
    pub dropped: Arc<Dropped>,
}

impl DedupArgs {
    /// Fails where --similarity was given and nothing is compared by it.
    pub fn check(&self, against: bool) -> Result<()> {
        let compared = against || self.dedup == Some(Repeats::Near);
        let cause = || usage("--similarity goes with --dedup near or --against");
        ensure!(compared || self.similarity.is_none(), cause());
        Ok(())
    }

    /// From which similarity on two rows are near.
    pub fn similarity(&self) -> f64 {
        self.similarity.unwrap_or(0.8)
    }

    /// What drops rows, if rows are to be dropped.
    pub fn start(&self) -> Option<Dedup> {
        let near = self.dedup? == Repeats::Near;
        Some(Dedup {
            seen: Seen::new(near.then_some(self.similarity())),
            near,
            labels: Vec::new(),
            names: HashMap::new(),
            dropped: Arc::default(),
        })
    }

    pub fn to_json(&self) -> Option<Value> {
        self.dedup.map(|kind| match kind {
            Repeats::Exact => json!({"kind": "exact"}),
            Repeats::Near => json!({"kind": "near", "similarity": self.similarity()}),
        })
    }
}

impl Dedup {
    /// For each row whether it repeats one that was kept before it.
    pub fn repeats(&mut self, rows: &[Row]) -> Vec<bool> {
        let near = self.near;
        let prints: Vec<Print> = rows.par_iter().map(|row| Print::of(&row.example, near)).collect();
        prints.into_iter().zip(rows).map(|(print, row)| self.repeated(print, row)).collect()
    }

    fn repeated(&mut self, print: Print, row: &Row) -> bool {
        self.dropped.rows.fetch_add(1, Relaxed);
        let next = self.names.len() as u32;
        let label = *self.names.entry(row.example.label.clone()).or_insert(next);
        let (count, first) = match self.seen.find(&print) {
            None => {
                self.seen.insert(print, self.labels.len() as u32);
                self.labels.push(label);
                return false;
            }
            Some(Found::Exact(first)) => (&self.dropped.exact, first),
            Some(Found::Near(first, _)) => (&self.dropped.near, first),
        };
        count.fetch_add(1, Relaxed);
        let contrary = self.labels[first as usize] != label;
        self.dropped.contrary.fetch_add(u64::from(contrary), Relaxed);
        true
    }
}

/// The next rows, to be looked at together on all threads, and the error that came after them.
pub fn batch(rows: &mut Rows) -> (Vec<Row>, Option<anyhow::Error>) {
    next(rows, |row| &row.example)
}

/// The rows that repeat none before them, as they are read.
pub fn without_repeats(mut rows: Rows, mut dedup: Dedup) -> Rows {
    let mut ready: VecDeque<Result<Row>> = VecDeque::new();
    Box::new(std::iter::from_fn(move || {
        while ready.is_empty() {
            let (read, error) = batch(&mut rows);
            if read.is_empty() && error.is_none() {
                return None;
            }
            let repeats = dedup.repeats(&read);
            let kept = read.into_iter().zip(repeats).filter(|(_, repeat)| !repeat);
            ready.extend(kept.map(|(row, _)| Ok(row)).chain(error.map(Err)));
        }
        ready.pop_front()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::texts::normalise;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn rows(texts: &[String]) -> Vec<Row> {
        let row = |(row, text): (usize, &String)| {
            let text = text.clone();
            let example = Example { text, pair: None, label: None, row: row as u64 };
            Row { example, stratum: None, group: None }
        };
        texts.iter().enumerate().map(row).collect()
    }

    fn kept(texts: &[String], kind: Repeats) -> Vec<String> {
        let dedup = DedupArgs { dedup: Some(kind), similarity: None }.start().unwrap();
        let rows: Rows = Box::new(rows(texts).into_iter().map(Ok));
        without_repeats(rows, dedup).map(|row| row.unwrap().example.text).collect()
    }

    proptest! {
        #[test]
        fn one_of_each_text_is_kept_and_it_is_the_first(texts in prop::collection::vec("[aA ]{0,3}", 0..60)) {
            let kept = kept(&texts, Repeats::Exact);
            let mut seen = HashSet::new();
            let firsts: Vec<_> = texts.iter().filter(|text| seen.insert(normalise(text))).cloned().collect();
            prop_assert_eq!(kept, firsts);
        }

        #[test]
        fn near_keeps_one_of_each_exact_text_at_most(texts in prop::collection::vec("([ab] ){0,4}", 0..40)) {
            let (near, exact) = (kept(&texts, Repeats::Near), kept(&texts, Repeats::Exact));
            prop_assert!(near.iter().all(|text| exact.contains(text)));
            prop_assert_eq!(near.first(), texts.first());
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let word = |i: u64| format!("w{}", i * i % 97);
        let text = |i: u64| (0..20).map(|k| word(i / 3 + k)).collect::<Vec<_>>().join(" ");
        let texts: Vec<String> = (0..9000).map(text).collect();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kept(&texts, Repeats::Near))
        };
        let one = on(1);
        assert!(one.len() < texts.len() / 2);
        assert_eq!(one, on(3));
    }

    #[test]
    fn an_error_comes_after_the_rows_before_it() {
        let texts = ["a", "A", "b"].map(str::to_owned);
        let read = rows(&texts).into_iter().map(Ok).chain([Err(anyhow::anyhow!("broken"))]);
        let dedup = DedupArgs { dedup: Some(Repeats::Exact), similarity: None }.start().unwrap();
        let all: Vec<_> = without_repeats(Box::new(read), dedup).collect();
        assert_eq!((all.len(), all[2].is_err()), (3, true));
    }
}
