//! A split as asked for: the sources it is read from, and which of their rows it takes, in which order.

use std::iter;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::columns::{Columns, Row, Rows, rows};
use super::dedup::{Dedup, batch, without_repeats};
use super::files;
use super::input::Examples;
use super::read::Reading;
use super::select::{Cut, Holdout, Numbers, Selection, sample};
use super::shelf::Shelf;
use super::skipped::Skipped;
use super::split::Key;
use crate::flags::usage;

/// One split of a data set as it lies there, read as often as wanted.
pub struct Source {
    pub shelf: Shelf,
    pub split: String,
    pub columns: Columns,
    pub reading: Reading,
}

impl Source {
    /// Rows left out are counted in `skipped`.
    fn open(&self, skipped: &Skipped) -> Result<Rows> {
        let records = self.shelf.open(&self.split, &self.reading)?;
        let skipped = self.reading.skip_bad.then(|| skipped.clone());
        Ok(rows(records, self.columns.clone(), skipped))
    }
}

/// One of the splits joined: which source it is taken from, and which of its rows.
pub struct Part {
    pub source: usize,
    pub selection: Selection,
}

/// Splits to be read one after the other.
#[derive(Default)]
pub struct Plan {
    pub sources: Vec<Source>,
    pub parts: Vec<Part>,
    /// Rows left out at the first reading.
    pub skipped: Skipped,
}

/// What the first reading of a source leaves: what splits look at in each row, whether the row repeats an earlier one,
/// and the rows themselves where they cannot be read again.
struct Survey {
    keys: Vec<Key>,
    repeats: Vec<bool>,
    rows: Option<Arc<Vec<Row>>>,
}

impl Survey {
    /// Rows that repeat none before them.
    fn rows_left(&self) -> usize {
        self.repeats.iter().filter(|repeat| !**repeat).count()
    }
}

/// Fails where a fold would have no row.
fn check_folds(selection: &Selection, rows: usize) -> Result<()> {
    let Some(Holdout { cut: Cut::Fold { of, .. }, .. }) = selection.holdout else { return Ok(()) };
    ensure!(of <= rows || rows == 0, usage(format!("--folds {of}: train has {rows} rows")));
    Ok(())
}

impl Plan {
    /// Adds rows of a source, which may be there already.
    pub fn add(&mut self, source: Source, selection: Selection) {
        let same = |s: &Source| s.shelf.name == source.shelf.name && s.split == source.split;
        let at = self.sources.iter().position(same).unwrap_or(self.sources.len());
        match self.sources.get_mut(at) {
            Some(known) => {
                known.columns.group = known.columns.group.take().or(source.columns.group)
            }
            None => self.sources.push(source),
        }
        self.parts.push(Part { source: at, selection });
    }

    /// Names of the classes, where all sources have the same.
    pub fn labels(&self) -> Vec<String> {
        let Columns { names: first, unlabelled, .. } = &self.sources[0].columns;
        let same = !unlabelled && self.sources.iter().all(|source| source.columns.names == *first);
        if same { first.clone() } else { Vec::new() }
    }

    /// What a header says of the files read.
    pub fn digests(&self) -> Result<Option<(&'static str, Value)>> {
        let mut all = Vec::new();
        for source in &self.sources {
            all.extend(source.shelf.files(&source.split)?.unwrap_or_default());
        }
        files::digests(&all)
    }

    /// How many rows cannot be read, where all can be read twice.
    pub fn count_bad(&self) -> Result<Option<u64>> {
        if self.sources.iter().any(|source| source.shelf.reads_once()) {
            return Ok(None);
        }
        let bad = Skipped::default();
        for source in &self.sources {
            source.open(&bad)?.try_for_each(|row| row.map(drop))?;
        }
        Ok(Some(bad.count()))
    }

    /// The examples, read as they are asked for. Rows are numbered through the sources, each whole, in their order.
    /// What is dropped has been counted already unless `dedup` is all that chooses and the source is read once.
    pub fn examples(
        &self,
        limit: Option<usize>,
        mut dedup: Option<Dedup>,
        seed: u64,
    ) -> Result<Examples> {
        let example = |row: Result<Row>| row.map(|row| row.example);
        if let ([source], [part], None) = (&self.sources[..], &self.parts[..], limit)
            && part.selection.is_all()
        {
            match dedup.take() {
                None => return Ok(Box::new(source.open(&self.skipped)?.map(example))),
                Some(dedup) if source.shelf.reads_once() => {
                    return Ok(Box::new(
                        without_repeats(source.open(&self.skipped)?, dedup).map(example),
                    ));
                }
                kept => dedup = kept,
            }
        }
        let first = |source: &Source| survey(source.open(&self.skipped)?, source, dedup.as_mut());
        let surveys: Vec<Survey> = self.sources.iter().map(first).collect::<Result<_>>()?;
        let choose = |part: &Part| {
            check_folds(&part.selection, surveys[part.source].rows_left())?;
            part.selection.choose(&surveys[part.source].keys, &surveys[part.source].repeats)
        };
        let mut wanted = self.parts.iter().map(choose).collect::<Result<Vec<_>>>()?;
        limit.map_or(Ok(()), |limit| sample(&mut wanted, limit, seed))?;
        let mut all: Examples = Box::new(iter::empty());
        for (part, wanted) in self.parts.iter().zip(wanted) {
            let before: usize = surveys[..part.source].iter().map(|s| s.keys.len()).sum();
            let rows = match &surveys[part.source].rows {
                None => self.sources[part.source].open(&Skipped::default())?,
                Some(kept) => {
                    let kept = kept.clone();
                    Box::new((0..kept.len()).map(move |row| Ok(kept[row].clone())))
                }
            };
            all = Box::new(all.chain(chosen(rows, wanted, before as u64)));
        }
        Ok(all)
    }
}

fn survey(mut rows: Rows, source: &Source, mut dedup: Option<&mut Dedup>) -> Result<Survey> {
    let mut numbers = Numbers::of(&source.columns.kind);
    let (mut keys, mut repeats) = (Vec::new(), Vec::new());
    let mut kept = source.shelf.reads_once().then(Vec::new);
    loop {
        let (read, error) = batch(&mut rows);
        error.map_or(Ok(()), Err)?;
        if read.is_empty() {
            return Ok(Survey { keys, repeats, rows: kept.map(Arc::new) });
        }
        keys.extend(read.iter().map(|row| numbers.key(row)));
        match &mut dedup {
            Some(dedup) => repeats.extend(dedup.repeats(&read)),
            None => repeats.resize(keys.len(), false),
        }
        kept.iter_mut().for_each(|kept| kept.extend(read.iter().cloned()));
    }
}

/// The rows wanted, numbered from `before` on, and any error.
fn chosen(rows: Rows, wanted: Vec<bool>, before: u64) -> Examples {
    Box::new(rows.zip(wanted).filter(|(row, keep)| *keep || row.is_err()).map(move |(row, _)| {
        let mut example = row?.example;
        example.row += before;
        Ok(example)
    }))
}
