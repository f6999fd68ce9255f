//! Cosine of TF-IDF vectors over token ids.

use super::nearest::Nearness;
use crate::shard::Shard;
use crate::tfidf::{idf, weights};

/// The task's texts by token, for scoring one text of the corpus at a time.
pub struct TfIdf<'a> {
    corpus: &'a Shard,
    tasks: usize,
    /// By token id; 0 for special tokens and for those that the corpus has not.
    idf: Vec<f32>,
    /// By token id, where its postings begin; one more for the end.
    starts: Vec<usize>,
    /// Text of the task and the weight of the token in it.
    postings: Vec<(u32, f32)>,
}

impl<'a> TfIdf<'a> {
    /// Weights from the texts at `pool` of the corpus. Both shards must be of one tokenizer.
    pub fn new(task: &Shard, corpus: &'a Shard, pool: &[usize]) -> Self {
        let idf = idf(corpus, pool.iter().map(|&at| at..at + 1));
        let mut entries: Vec<(u32, u32, f32)> = Vec::new();
        for i in 0..task.len() {
            let (weights, norm) = weights(task, i..i + 1, &idf);
            entries.extend(weights.iter().map(|(token, weight)| (*token, i as u32, weight / norm)));
        }
        entries.sort_unstable_by_key(|(token, text, _)| (*token, *text));
        let start = |token| entries.partition_point(|(other, ..)| (*other as usize) < token);
        let starts = (0..=idf.len()).map(start).collect();
        let postings = entries.iter().map(|(_, text, weight)| (*text, *weight)).collect();
        Self { corpus, tasks: task.len(), idf, starts, postings }
    }
}

impl Nearness for TfIdf<'_> {
    fn tasks(&self) -> usize {
        self.tasks
    }

    /// A text that shares no token with another is no neighbour of it.
    fn score(&self, at: usize, scores: &mut [f32]) {
        scores.fill(0.0);
        let (weights, norm) = weights(self.corpus, at..at + 1, &self.idf);
        for (token, weight) in weights {
            let (from, to) = (self.starts[token as usize], self.starts[token as usize + 1]);
            for (text, other) in &self.postings[from..to] {
                scores[*text as usize] += weight * other;
            }
        }
        for score in scores {
            *score = if *score > 0.0 { *score / norm } else { f32::NEG_INFINITY };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::tests::shard;
    use crate::survey::nearest::nearest;

    /// The cosine of the definition, over words as bags, in 64 bits.
    fn cosine(task: &[u32], text: &[u32], corpus: &[Vec<u32>]) -> f64 {
        let df = |token| corpus.iter().filter(|text| text.contains(&token)).count() as f64;
        let idf = |token| ((1.0 + corpus.len() as f64) / (1.0 + df(token))).ln() + 1.0;
        let weight = |text: &[u32], token: u32| {
            let known = token >= 5 && df(token) > 0.0;
            let count = text.iter().filter(|other| **other == token).count() as f64;
            if known { count * idf(token) } else { 0.0 }
        };
        let dot = |a: &[u32], b: &[u32]| -> f64 {
            (0..30).map(|token| weight(a, token) * weight(b, token)).sum()
        };
        dot(task, text) / (dot(task, task) * dot(text, text)).sqrt()
    }

    #[test]
    fn special_and_strange_tokens_make_no_neighbours() {
        let task = shard(&[&[0, 2], &[0, 9, 2], &[0, 5, 2]]);
        let corpus = shard(&[&[0, 5, 2], &[0, 2], &[0, 5, 2, 2]]);
        let found = nearest(&TfIdf::new(&task, &corpus, &[0, 1, 2]), &[0, 1, 2], 5);
        let places: Vec<Vec<usize>> =
            found.iter().map(|found| found.iter().map(|near| near.at).collect()).collect();
        assert_eq!(places, [vec![], vec![], vec![0, 2]]);
    }

    proptest! {
        #[test]
        fn scores_are_those_of_the_definition(
            task in prop::collection::vec(prop::collection::vec(0..30u32, 1..12), 1..5),
            corpus in prop::collection::vec(prop::collection::vec(0..30u32, 1..12), 1..20),
        ) {
            let refs = |texts: &[Vec<u32>]| shard(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let pool: Vec<usize> = (0..corpus.len()).collect();
            let found = nearest(&TfIdf::new(&refs(&task), &refs(&corpus), &pool), &pool, corpus.len());
            for (task, found) in task.iter().zip(found) {
                let near = corpus.iter().filter(|text| cosine(task, text, &corpus) > 0.0);
                prop_assert_eq!(near.count(), found.len());
                for near in found {
                    let wanted = cosine(task, &corpus[near.at], &corpus);
                    prop_assert!((wanted - f64::from(near.score)).abs() < 1e-5);
                }
            }
        }
    }
}
