//! Splits: which rows go where. Exact counts, decided by the seed and by labels and groups alone.

use std::collections::BTreeMap;

use rand_chacha::rand_core::RngCore;

/// What a split looks at in a row; rows of one group stay together.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub label: u32,
    pub group: u32,
}

/// Rows that stay together, and their labels, sorted.
struct Unit {
    rows: Vec<usize>,
    labels: Vec<u32>,
}

/// The part of each row: i + 1 for the share i, each of round(rows x share) rows, 0 for the rest. Stratified, each
/// label has its share by largest remainder. Groups may leave a part smaller than its share, never larger.
pub fn cut(keys: &[Key], shares: &[f64], stratify: bool, rng: &mut impl RngCore) -> Vec<usize> {
    let units = shuffled(units(keys), rng);
    let strata = strata(&units, stratify);
    let sizes: Vec<usize> = strata.iter().map(|stratum| rows_of(&units, stratum)).collect();
    let mut parts = vec![0; keys.len()];
    for (i, share) in shares.iter().enumerate() {
        let mut goal = round(keys.len(), *share);
        let quotas = largest_remainder(&sizes, *share, goal);
        for (stratum, quota) in strata.iter().zip(quotas) {
            goal -= take(&units, stratum, quota, i + 1, &mut parts);
        }
        let all: Vec<usize> = (0..units.len()).collect();
        take(&units, &all, goal, i + 1, &mut parts);
    }
    parts
}

/// The fold of each row, 0 to `folds` - 1. Sizes differ by at most one row, and stratified, so do the rows of each label;
/// groups are dealt out largest first, so that they stay as near to that as they allow.
pub fn folds(keys: &[Key], folds: usize, stratify: bool, rng: &mut impl RngCore) -> Vec<usize> {
    let units = shuffled(units(keys), rng);
    let mut order: Vec<usize> = strata(&units, stratify).into_iter().flatten().collect();
    order.sort_by_key(|&i| std::cmp::Reverse(units[i].rows.len()));
    let mut sizes = vec![0; folds];
    // Rows of each label in each fold.
    let mut labels: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut parts = vec![0; keys.len()];
    for unit in order.into_iter().map(|i| &units[i]) {
        let mut own = vec![0; folds];
        for label in unit.labels.iter().filter(|_| stratify) {
            let counts = labels.entry(*label).or_insert_with(|| vec![0; folds]);
            own.iter_mut().zip(counts).for_each(|(own, count)| *own += *count);
        }
        let fold = (0..folds).min_by_key(|&fold| (own[fold], sizes[fold])).unwrap_or(0);
        sizes[fold] += unit.rows.len();
        for label in unit.labels.iter().filter(|_| stratify) {
            labels.entry(*label).and_modify(|counts| counts[fold] += 1);
        }
        unit.rows.iter().for_each(|&row| parts[row] = fold);
    }
    parts
}

/// True for `n` of `rows`, every set of n equally likely; a smaller n gives a subset.
pub fn choose(rows: usize, n: usize, rng: &mut impl RngCore) -> Vec<bool> {
    let ranks: Vec<u64> = (0..rows).map(|_| rng.next_u64()).collect();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|&row| (ranks[row], row));
    let mut chosen = vec![false; rows];
    order.into_iter().take(n).for_each(|row| chosen[row] = true);
    chosen
}

/// The number of rows a share stands for.
pub fn round(rows: usize, share: f64) -> usize {
    (rows as f64 * share).round() as usize
}

fn units(keys: &[Key]) -> Vec<Unit> {
    let mut units: BTreeMap<u32, Unit> = BTreeMap::new();
    for (row, key) in keys.iter().enumerate() {
        let unit = units.entry(key.group).or_insert(Unit { rows: Vec::new(), labels: Vec::new() });
        unit.rows.push(row);
        unit.labels.push(key.label);
    }
    units.values_mut().for_each(|unit| unit.labels.sort_unstable());
    units.into_values().collect()
}

fn shuffled(units: Vec<Unit>, rng: &mut impl RngCore) -> Vec<Unit> {
    let mut ranked: Vec<(u64, Unit)> =
        units.into_iter().map(|unit| (rng.next_u64(), unit)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, unit)| unit).collect()
}

/// Units of the same labels, as positions in `units`; all of them where nothing is stratified.
fn strata(units: &[Unit], stratify: bool) -> Vec<Vec<usize>> {
    let mut strata: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for (i, unit) in units.iter().enumerate() {
        let labels = if stratify { &unit.labels[..] } else { &[] };
        strata.entry(labels).or_default().push(i);
    }
    strata.into_values().collect()
}

fn rows_of(units: &[Unit], stratum: &[usize]) -> usize {
    stratum.iter().map(|&i| units[i].rows.len()).sum()
}

/// Splits `goal` by size: each stratum the whole part of its share, what is left to the largest remainders.
fn largest_remainder(sizes: &[usize], share: f64, goal: usize) -> Vec<usize> {
    let exact: Vec<f64> = sizes.iter().map(|&size| size as f64 * share).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let left = goal.saturating_sub(quotas.iter().sum());
    order.into_iter().take(left).for_each(|i| quotas[i] += 1);
    quotas
}

/// Gives free units that fit to `part`, up to `quota` rows; returns how many rows were given.
fn take(units: &[Unit], from: &[usize], quota: usize, part: usize, parts: &mut [usize]) -> usize {
    let mut taken = 0;
    for unit in from.iter().map(|&i| &units[i]) {
        if parts[unit.rows[0]] == 0 && taken + unit.rows.len() <= quota {
            taken += unit.rows.len();
            unit.rows.iter().for_each(|&row| parts[row] = part);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::generator;
    use proptest::prelude::*;

    fn keys(labels: &[u32], groups: Option<u32>) -> Vec<Key> {
        let group = |row: usize| groups.map_or(row as u32, |groups| row as u32 * 7 % groups);
        labels.iter().enumerate().map(|(row, &label)| Key { label, group: group(row) }).collect()
    }

    fn count(parts: &[usize], part: usize) -> usize {
        parts.iter().filter(|&&p| p == part).count()
    }

    proptest! {
        #[test]
        fn counts_are_exact(labels in prop::collection::vec(0..4u32, 1..300), share in 0.01..0.49, seed: u64, stratify: bool) {
            let keys = keys(&labels, None);
            let parts = cut(&keys, &[share, share], stratify, &mut generator("split", seed, 0));
            let goal = round(keys.len(), share);
            prop_assume!(2 * goal <= keys.len());
            prop_assert_eq!((count(&parts, 1), count(&parts, 2)), (goal, goal));
            prop_assert_eq!(&parts, &cut(&keys, &[share, share], stratify, &mut generator("split", seed, 0)));
            for label in (0..4).filter(|_| stratify) {
                let of = |part| (0..keys.len()).filter(|&i| parts[i] == part && labels[i] == label).count();
                let exact = labels.iter().filter(|&&l| l == label).count() as f64 * share;
                prop_assert!((of(1) as f64 - exact).abs() < 1.0 + 1e-9);
            }
        }

        #[test]
        fn groups_stay_whole(labels in prop::collection::vec(0..3u32, 1..300), groups in 1..50u32, share in 0.1..0.9, seed: u64) {
            let keys = keys(&labels, Some(groups));
            let parts = cut(&keys, &[share], true, &mut generator("split", seed, 0));
            prop_assert!(count(&parts, 1) <= round(keys.len(), share));
            for (a, b) in (0..keys.len()).zip(1..keys.len()) {
                prop_assert!(keys[a].group != keys[b].group || parts[a] == parts[b]);
            }
        }

        #[test]
        fn folds_are_even(labels in prop::collection::vec(0..4u32, 1..300), of in 2..9usize, seed: u64, stratify: bool) {
            let keys = keys(&labels, None);
            let parts = folds(&keys, of, stratify, &mut generator("folds", seed, 0));
            prop_assert!(parts.iter().all(|&fold| fold < of));
            let spread = |wanted: &dyn Fn(usize) -> bool| {
                let mut sizes = vec![0; of];
                (0..parts.len()).filter(|&row| wanted(row)).for_each(|row| sizes[parts[row]] += 1);
                sizes.iter().max().unwrap() - sizes.iter().min().unwrap()
            };
            prop_assert!(spread(&|_| true) <= 1);
            for label in (0..4).filter(|_| stratify) {
                prop_assert!(spread(&|row| labels[row] == label) <= 1);
            }
        }

        #[test]
        fn folds_keep_groups_whole(labels in prop::collection::vec(0..3u32, 1..300), groups in 1..50u32, seed: u64, stratify: bool) {
            let keys = keys(&labels, Some(groups));
            let parts = folds(&keys, 5, stratify, &mut generator("folds", seed, 0));
            for (a, b) in (0..keys.len()).zip(1..keys.len()) {
                prop_assert!(keys[a].group != keys[b].group || parts[a] == parts[b]);
            }
        }

        #[test]
        fn a_smaller_choice_is_a_subset(rows in 0..500usize, n in 0..500usize, seed: u64) {
            let choose = |n| choose(rows, n, &mut generator("limit", seed, 0));
            let (few, more) = (choose(n / 2), choose(n));
            prop_assert_eq!(more.iter().filter(|&&c| c).count(), n.min(rows));
            prop_assert!(few.iter().zip(&more).all(|(few, more)| !few || *more));
        }
    }

    #[test]
    fn every_row_is_chosen_as_often() {
        let mut times = [0; 10];
        for seed in 0..4000 {
            let chosen = choose(10, 3, &mut generator("limit", seed, 0));
            times.iter_mut().zip(chosen).for_each(|(times, chosen)| *times += u32::from(chosen));
        }
        // 1,200 expected, with a standard deviation of 29.
        assert!(times.iter().all(|times| (1050..1350).contains(times)), "{times:?}");
    }
}
