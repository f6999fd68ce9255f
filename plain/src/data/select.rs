//! Which rows of a source make a split: carving, holding out, limiting, in this order.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use super::columns::Row;
use super::split::{Key, choose, cut};
use crate::random::generator;

/// How the rows of a split are chosen from those of the source.
pub struct Selection {
    /// Shares carved out of train, and which part is wanted: 0 what is left of train, i + 1 the share i.
    pub carve: Option<(Vec<f64>, usize)>,
    pub holdout: Option<Holdout>,
    pub limit: Option<usize>,
    pub seed: u64,
}

pub struct Holdout {
    pub share: f64,
    /// The rows left out are wanted, not the others.
    pub held: bool,
    pub stratify: bool,
    pub grouped: bool,
}

/// What splits look at, for every row.
pub fn keys(rows: impl Iterator<Item = Result<Row>>) -> Result<Vec<Key>> {
    let (mut labels, mut groups) = (HashMap::new(), HashMap::new());
    rows.enumerate()
        .map(|(i, row)| {
            let row = row?;
            let group = row.group.unwrap_or_else(|| format!("\0{i}"));
            Ok(Key {
                label: number(&mut labels, row.example.label),
                group: number(&mut groups, group),
            })
        })
        .collect()
}

fn number<T: std::hash::Hash + Eq>(seen: &mut HashMap<T, u32>, name: T) -> u32 {
    let next = seen.len() as u32;
    *seen.entry(name).or_insert(next)
}

impl Selection {
    pub fn is_all(&self) -> bool {
        self.carve.is_none() && self.holdout.is_none() && self.limit.is_none()
    }

    /// True for each row that is wanted. Fails if none is.
    pub fn choose(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let mut rows: Vec<usize> = (0..keys.len()).collect();
        if let Some((shares, part)) = &self.carve {
            keep_part(&mut rows, keys, shares, true, *part, ("carve", self.seed));
        }
        if let Some(holdout) = &self.holdout {
            let keys: Vec<Key> =
                keys.iter().enumerate().map(|(i, key)| holdout.key(key, i)).collect();
            let part = usize::from(holdout.held);
            keep_part(
                &mut rows,
                &keys,
                &[holdout.share],
                holdout.stratify,
                part,
                ("split", self.seed),
            );
        }
        if let Some(limit) = self.limit {
            let chosen = choose(rows.len(), limit, &mut generator("limit", self.seed, 0));
            let mut chosen = chosen.into_iter();
            rows.retain(|_| chosen.next().unwrap_or(false));
        }
        ensure!(!rows.is_empty() || keys.is_empty(), "no row is left of the {} read", keys.len());
        let mut wanted = vec![false; keys.len()];
        rows.into_iter().for_each(|row| wanted[row] = true);
        Ok(wanted)
    }
}

impl Holdout {
    /// The catalog's groups bind when carving only; here a row stands alone unless `--group-by` was given.
    fn key(&self, key: &Key, row: usize) -> Key {
        if self.grouped { *key } else { Key { group: row as u32, ..*key } }
    }
}

fn keep_part(
    rows: &mut Vec<usize>,
    keys: &[Key],
    shares: &[f64],
    stratify: bool,
    part: usize,
    (purpose, seed): (&str, u64),
) {
    let keys: Vec<Key> = rows.iter().map(|&row| keys[row]).collect();
    let mut parts = cut(&keys, shares, stratify, &mut generator(purpose, seed, 0)).into_iter();
    rows.retain(|_| parts.next() == Some(part));
}
