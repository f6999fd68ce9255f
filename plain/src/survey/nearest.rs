//! The k nearest texts of a corpus to each text of a task.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::*;

/// Scores held at a time: 16 MiB.
const BLOCK: usize = 1 << 22;
/// Task texts whose neighbours one thread keeps at a time.
const TASKS: usize = 64;

/// A text of the corpus and how near it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its place in the corpus.
    pub at: usize,
    pub score: f32,
}

impl Eq for Neighbour {}

/// The nearer is less; of two equally near the earlier.
impl Ord for Neighbour {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.at.cmp(&other.at))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How near the texts of a corpus are to those of a task.
pub trait Nearness: Sync {
    /// Texts of the task.
    fn tasks(&self) -> usize;

    /// Sets `scores` `[tasks]` to how near text `at` of the corpus is to each; negative infinity is no neighbour.
    fn score(&self, at: usize, scores: &mut [f32]);
}

/// For each text of the task its `k` nearest among the texts at `pool` of the corpus, the nearest first. The same at
/// any number of threads; memory does not grow with the corpus.
pub fn nearest(nearness: &dyn Nearness, pool: &[usize], k: usize) -> Vec<Vec<Neighbour>> {
    let tasks = nearness.tasks();
    if tasks == 0 {
        return Vec::new();
    }
    let mut found: Vec<BinaryHeap<Neighbour>> = vec![BinaryHeap::new(); tasks];
    let block = (BLOCK / tasks).max(1);
    let mut scores = vec![0.0; block.min(pool.len()) * tasks];
    for block in pool.chunks(block) {
        let scores = &mut scores[..block.len() * tasks];
        let rows = scores.par_chunks_mut(tasks).zip(block);
        rows.for_each(|(scores, &at)| nearness.score(at, scores));
        let tasks_of = |i: usize| scores.chunks(tasks).map(move |row| &row[i * TASKS..]);
        found.par_chunks_mut(TASKS).enumerate().for_each(|(i, found)| {
            for (row, &at) in tasks_of(i).zip(block) {
                let new = row.iter().map(|&score| Neighbour { at, score });
                found.iter_mut().zip(new).for_each(|(found, new)| keep(found, new, k));
            }
        });
    }
    found.into_iter().map(BinaryHeap::into_sorted_vec).collect()
}

/// Keeps the `k` nearest; the top of the heap is the farthest of them.
fn keep(found: &mut BinaryHeap<Neighbour>, new: Neighbour, k: usize) {
    if new.score == f32::NEG_INFINITY {
        return;
    }
    if found.len() < k {
        found.push(new);
        return;
    }
    if let Some(mut farthest) = found.peek_mut()
        && new < *farthest
    {
        *farthest = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Scores as a table, `[corpus][tasks]`.
    struct Table(Vec<Vec<f32>>);

    impl Nearness for Table {
        fn tasks(&self) -> usize {
            self.0[0].len()
        }

        fn score(&self, at: usize, scores: &mut [f32]) {
            scores.copy_from_slice(&self.0[at]);
        }
    }

    proptest! {
        #[test]
        fn the_nearest_are_the_first_of_all_sorted(
            (tasks, seed) in (1..150usize, prop::collection::vec(0..6u8, 1..40)), k in 1..9usize,
        ) {
            let score = |at: usize, task: usize| match (seed[at] as usize * (task + 3) + at) % 7 {
                0 => f32::NEG_INFINITY,
                score => score as f32,
            };
            let rows = (0..seed.len()).map(|at| (0..tasks).map(|task| score(at, task)).collect());
            let pool: Vec<usize> = (0..seed.len()).filter(|at| at % 5 != 1).collect();
            let found = nearest(&Table(rows.collect()), &pool, k);
            for (task, found) in found.into_iter().enumerate() {
                let mut all: Vec<(f32, usize)> = pool.iter().map(|&at| (-score(at, task), at)).collect();
                all.retain(|(score, _)| score.is_finite());
                all.sort_by(|a, b| a.partial_cmp(b).unwrap());
                let wanted: Vec<_> = all.into_iter().take(k).map(|(score, at)| (at, -score)).collect();
                let found: Vec<_> = found.into_iter().map(|n| (n.at, n.score)).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
