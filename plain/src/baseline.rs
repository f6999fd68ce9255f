//! Multinomial naive Bayes over TF-IDF weights of token ids: what a classifier without any pretraining makes of the same
//! tokens.

use std::ops::Range;

use rayon::prelude::*;

use crate::shard::Shard;
use crate::tfidf::{idf, weights};

/// Added to the weight of every token in every class (Laplace), scikit-learn's default.
const ALPHA: f64 = 1.0;

/// Weights learnt from a shard, as scikit-learn's `MultinomialNB` learns them from what `TfidfTransformer` makes of counts of
/// the tokens that occur there, special ones aside.
pub struct NaiveBayes {
    /// By token id; 0 for what is passed over.
    idf: Vec<f32>,
    /// Of each class the logarithm of its share of the texts, and of the weight of all its tokens.
    classes: Vec<(f64, f64)>,
    /// By token id, where its postings begin; one more for the end.
    starts: Vec<usize>,
    /// A class that has the token, and the logarithm of the weight there over that of a token it has not.
    postings: Vec<(u32, f64)>,
}

impl NaiveBayes {
    /// Learns from texts in those sequences of a shard, of the classes `gold`; `classes` there are.
    pub fn new(shard: &Shard, texts: &[Range<usize>], gold: &[usize], classes: usize) -> Self {
        let idf = idf(shard, texts.iter().cloned());
        let tokens = idf.iter().filter(|idf| **idf > 0.0).count() as f64;
        let of_text = |(text, &class): (&Range<usize>, &usize)| {
            unit(shard, text, &idf).map(|(token, weight)| (token, class as u32, weight)).collect()
        };
        let found: Vec<Vec<_>> = texts.par_iter().zip(gold).map(of_text).collect();
        let mut entries: Vec<(u32, u32, f64)> = found.concat();
        // Stable, so that sums are of one order.
        entries.par_sort_by_key(|(token, class, _)| (*token, *class));
        let (mut counts, mut sums) = (vec![0u64; classes], vec![ALPHA * tokens.max(1.0); classes]);
        gold.iter().for_each(|&class| counts[class] += 1);
        let (mut starts, mut postings) = (vec![0; idf.len() + 1], Vec::new());
        for same in entries.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (token, class, _) = same[0];
            let sum: f64 = same.iter().map(|(.., weight)| weight).sum();
            sums[class as usize] += sum;
            postings.push((class, ((sum + ALPHA) / ALPHA).ln()));
            starts[token as usize + 1] += 1;
        }
        (0..idf.len()).for_each(|token| starts[token + 1] += starts[token]);
        let share = |count: u64| (count as f64 / gold.len() as f64).ln();
        let classes = counts.into_iter().zip(sums);
        let classes = classes.map(|(count, sum)| (share(count), (sum / ALPHA).ln())).collect();
        Self { idf, classes, starts, postings }
    }

    /// Of every class the logarithm of its probability together with the text in those sequences of `shard`; without end
    /// where no text that was learnt from is of it.
    pub fn scores(&self, shard: &Shard, text: &Range<usize>) -> Vec<f64> {
        let text: Vec<(u32, f64)> = unit(shard, text, &self.idf).collect();
        let all: f64 = text.iter().map(|(_, weight)| weight).sum();
        let mut scores: Vec<f64> =
            self.classes.iter().map(|(share, sum)| share - all * sum).collect();
        for (token, weight) in text {
            let (from, to) = (self.starts[token as usize], self.starts[token as usize + 1]);
            for (class, log) in &self.postings[from..to] {
                scores[*class as usize] += weight * log;
            }
        }
        scores
    }

    /// The most probable class of each text, the first of equals.
    pub fn classify(&self, shard: &Shard, texts: &[Range<usize>]) -> Vec<usize> {
        let of_text = |text: &Range<usize>| {
            let scores = self.scores(shard, text);
            (0..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
        };
        texts.par_iter().map(of_text).collect()
    }
}

/// Weights of a text's tokens, as a vector of length 1.
fn unit(shard: &Shard, text: &Range<usize>, idf: &[f32]) -> impl Iterator<Item = (u32, f64)> {
    let (weights, norm) = weights(shard, text.clone(), idf);
    weights.into_iter().map(move |(token, weight)| (token, f64::from(weight / norm)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::tests::shard;

    #[test]
    fn by_hand() {
        // Tokens below 5 are special. 5 is in both texts, 6 in one of them twice: ln(3 / 3) + 1 and ln(3 / 2) + 1.
        let train = shard(&[&[0, 5, 2], &[0, 5, 6, 6, 2]]);
        let (texts, rare) = ([0..1, 1..2], 1.5f64.ln() + 1.0);
        let bayes = NaiveBayes::new(&train, &texts, &[2, 0], 3);
        let length = (1.0 + 4.0 * rare * rare).sqrt();
        let (common, twice) = (1.0 / length, 2.0 * rare / length);
        let scores = bayes.scores(&shard(&[&[0, 6, 9, 2]]), &(0..1));
        let wanted = (0.5 * (twice + 1.0) / (common + twice + 2.0)).ln();
        assert!((scores[0] - wanted).abs() < 1e-6, "{scores:?}, not {wanted}");
        assert!((scores[2] - (0.5f64 / 3.0).ln()).abs() < 1e-6, "{scores:?}");
        // No text of the class in the middle.
        assert_eq!(scores[1], f64::NEG_INFINITY);
        // What it knows nothing of goes by the shares of the classes; of equals the first.
        let strange = shard(&[&[0, 9, 2], &[0, 5, 5, 2], &[0, 6, 2]]);
        assert_eq!(bayes.classify(&strange, &[0..1, 1..2, 2..3]), [0, 2, 0]);
        // Windows of one text are one text.
        let whole = bayes.scores(&shard(&[&[0, 5, 5, 6, 2]]), &(0..1));
        assert_eq!(bayes.scores(&strange, &(1..3)), whole);
        assert_eq!(bayes.classify(&strange, &[1..3, 2..3]), [2, 0]);
    }
}
