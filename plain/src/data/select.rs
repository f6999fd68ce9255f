//! Which rows of a source make a split: carving, then holding out or folding, and of what they give a sample.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::columns::Row;
use super::labels::LabelKind;
use super::split::{Key, choose, cut, folds};
use crate::flags::{fault, part, usage};
use crate::random::generator;

/// Folds to cross-validate by, as flags.
#[derive(Debug, Clone, clap::Args)]
pub struct FoldArgs {
    /// Divide train into K folds of equal size and leave fold --fold out; --split holdout gives that one
    #[arg(long, value_name = "K", requires = "fold", group = "cut", value_parser = at_least_two)]
    pub folds: Option<usize>,

    /// Which fold is left out, from 1 to K
    #[arg(long, value_name = "I", requires = "folds")]
    pub fold: Option<usize>,
}

fn at_least_two(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count >= 2).ok_or("a whole number from 2 up is wanted".into())
}

impl FoldArgs {
    /// How many folds, and which one is left out, from 0.
    pub fn chosen(&self) -> Result<Option<Cut>> {
        let Some((of, fold)) = self.folds.zip(self.fold) else { return Ok(None) };
        ensure!((1..=of).contains(&fold), usage(format!("--fold {fold}: folds are 1 to {of}")));
        Ok(Some(Cut::Fold { of, fold: fold - 1 }))
    }
}

/// How the rows of a split are chosen from those of the source.
pub struct Selection {
    /// Shares carved out of train, and which part is wanted: 0 what is left of train, i + 1 the share i.
    pub carve: Option<(Vec<f64>, usize)>,
    pub holdout: Option<Holdout>,
    pub seed: u64,
}

#[derive(Debug, Clone)]
pub struct Holdout {
    pub cut: Cut,
    /// The rows left out are wanted, not the others.
    pub held: bool,
    pub stratify: bool,
}

/// What is left out of train.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    Share(f64),
    /// So many rows.
    Rows(usize),
    /// Fold `fold` of 0 to `of` - 1.
    Fold {
        of: usize,
        fold: usize,
    },
}

/// What `--holdout` takes: a share, or a number of rows.
pub fn held(text: &str) -> Result<Cut, String> {
    let wanted = "a share between 0 and 1, or a number of rows";
    match text.parse() {
        Ok(0) => Err(wanted.into()),
        Ok(rows) => Ok(Cut::Rows(rows)),
        Err(_) => part(text, 1.0).map(Cut::Share).map_err(|_| wanted.into()),
    }
}

/// Numbers for the labels and groups of rows, as splits look at them.
#[derive(Default)]
pub struct Numbers {
    /// Labels count for nothing: a text has several, or a number.
    alike: bool,
    labels: HashMap<Option<String>, u32>,
    groups: HashMap<String, u32>,
    rows: u32,
}

impl Numbers {
    /// For labels of this kind.
    pub fn of(kind: &LabelKind) -> Self {
        Self { alike: *kind != LabelKind::Class, ..Self::default() }
    }

    /// The key of the next row; without a group it is one by itself.
    pub fn key(&mut self, row: &Row) -> Key {
        self.rows += 1;
        let group = match &row.group {
            Some(group) => number(&mut self.groups, group.clone()),
            None => self.rows - 1,
        };
        let label = row.stratum.as_ref().or(row.example.label.as_ref()).filter(|_| !self.alike);
        Key { label: number(&mut self.labels, label.cloned()), group }
    }
}

fn number<T: std::hash::Hash + Eq>(seen: &mut HashMap<T, u32>, name: T) -> u32 {
    let next = seen.len() as u32;
    *seen.entry(name).or_insert(next)
}

impl Selection {
    pub fn is_all(&self) -> bool {
        self.carve.is_none() && self.holdout.is_none()
    }

    /// True for each row that is wanted, of those that `repeats` does not rule out. Fails if none is.
    pub fn choose(&self, keys: &[Key], repeats: &[bool]) -> Result<Vec<bool>> {
        let mut rows: Vec<usize> = (0..keys.len()).filter(|&row| !repeats[row]).collect();
        if let Some((shares, part)) = &self.carve {
            let keys: Vec<Key> = rows.iter().map(|&row| keys[row]).collect();
            let parts = cut(&keys, shares, true, &mut generator("carve", self.seed, 0));
            keep(&mut rows, parts.iter().map(|p| p == part));
        }
        if let Some(holdout) = &self.holdout {
            let keys: Vec<Key> = rows.iter().map(|&row| keys[row]).collect();
            let held = holdout.held(&keys, self.seed)?;
            keep(&mut rows, held.into_iter().map(|held| held == holdout.held));
        }
        ensure!(!rows.is_empty() || keys.is_empty(), "no row is left of the {} read", keys.len());
        let mut wanted = vec![false; keys.len()];
        rows.into_iter().for_each(|row| wanted[row] = true);
        Ok(wanted)
    }
}

/// Leaves `limit` of the rows wanted, over all parts, every such sample equally likely.
pub fn sample(wanted: &mut [Vec<bool>], limit: usize, seed: u64) -> Result<()> {
    let count = wanted.iter().flatten().filter(|wanted| **wanted).count();
    let mut chosen = choose(count, limit, &mut generator("limit", seed, 0)).into_iter();
    let rows = wanted.iter_mut().flatten().filter(|wanted| **wanted);
    rows.for_each(|wanted| *wanted = chosen.next().unwrap_or(false));
    ensure!(limit > 0 || count == 0, "no row is left of the {count} read");
    Ok(())
}

impl Holdout {
    /// True for each row that is left out of train.
    fn held(&self, keys: &[Key], seed: u64) -> Result<Vec<bool>> {
        let of_share = |share| {
            let parts = cut(keys, &[share], self.stratify, &mut generator("split", seed, 0));
            parts.into_iter().map(|part| part == 1).collect()
        };
        Ok(match self.cut {
            Cut::Share(share) => of_share(share),
            Cut::Rows(rows) => {
                let all = keys.len();
                let cause = || format!("--holdout {rows}: train has {all} rows");
                ensure!(rows < all || all == 0, fault(cause(), "leave some of them in train"));
                of_share(rows as f64 / all as f64)
            }
            Cut::Fold { of, fold } => {
                let parts = folds(keys, of, self.stratify, &mut generator("folds", seed, 0));
                parts.into_iter().map(|part| part == fold).collect()
            }
        })
    }

    /// What a shard's source says of it.
    pub fn to_json(&self) -> Value {
        match self.cut {
            Cut::Share(share) => json!({"holdout": share, "stratify": self.stratify}),
            Cut::Rows(rows) => json!({"holdout": rows, "stratify": self.stratify}),
            Cut::Fold { of, fold } => {
                json!({"folds": of, "fold": fold + 1, "stratify": self.stratify})
            }
        }
    }
}

fn keep(rows: &mut Vec<usize>, mut which: impl Iterator<Item = bool>) {
    rows.retain(|_| which.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(rows: u32, groups: u32) -> Vec<Key> {
        (0..rows).map(|row| Key { label: row % 3, group: row % groups }).collect()
    }

    fn selection(cut: Cut, held: bool, stratify: bool, seed: u64) -> Selection {
        Selection { carve: None, holdout: Some(Holdout { cut, held, stratify }), seed }
    }

    proptest! {
        /// The two parts of a cut are all rows, and the folds' left-out parts too, each row once.
        #[test]
        fn parts_make_up_the_whole(rows in 40..200u32, seed: u64, how: bool, groups in 20..400u32, repeat in 2..9usize) {
            let keys = keys(rows, groups);
            let repeats: Vec<bool> = (0..keys.len()).map(|row| row % repeat == 1).collect();
            let times = |selections: &[Selection]| {
                let mut times = vec![0; keys.len()];
                for selection in selections {
                    let wanted = selection.choose(&keys, &repeats).unwrap();
                    times.iter_mut().zip(wanted).for_each(|(times, wanted)| *times += usize::from(wanted));
                }
                times
            };
            let once: Vec<usize> = repeats.iter().map(|repeat| usize::from(!repeat)).collect();
            let both = |cut| [true, false].map(|held| selection(cut, held, how, seed));
            prop_assert_eq!(times(&both(Cut::Share(0.3))), once.clone());
            prop_assert_eq!(times(&both(Cut::Rows(13))), once.clone());
            prop_assert_eq!(times(&both(Cut::Fold { of: 4, fold: 2 })), once.clone());
            let folds = [0, 1, 2, 3].map(|fold| selection(Cut::Fold { of: 4, fold }, true, how, seed));
            prop_assert_eq!(times(&folds), once);
        }

        #[test]
        fn a_sample_has_as_many_rows_as_asked(a in 0..50usize, b in 0..50usize, limit in 1..120usize, seed: u64) {
            let mut wanted = [vec![true; a], vec![false; 3], vec![true; b]];
            sample(&mut wanted, limit, seed).unwrap();
            prop_assert_eq!(wanted.iter().flatten().filter(|w| **w).count(), limit.min(a + b));
            prop_assert!(wanted[1].iter().all(|w| !w));
        }
    }
}
