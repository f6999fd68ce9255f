//! Spans of whole words (SpanBERT, Joshi et al. 2020, section 3.1).
//!
//! A span ends early at a special token, at a word that is hidden already, and where the budget is spent.

use std::ops::Range;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The chance that a span ends after a word.
const P: f64 = 0.2;
/// Words of the longest span.
const LONGEST: usize = 10;

/// Words of a span: geometric, drawn again where it is longer than `LONGEST`. Its mean is 3.8.
fn length(rng: &mut ChaCha8Rng) -> usize {
    loop {
        if let Some(length) = (1..=LONGEST).find(|_| rng.random_bool(P)) {
            return length;
        }
    }
}

/// Tokens that may still be hidden.
pub struct Budget {
    left: usize,
    exact: bool,
}

impl Budget {
    /// `exact`: never exceeded, and a word that would do so is passed over. Otherwise that word is hidden with the
    /// chance that makes `tokens` the mean, and the budget is spent.
    pub fn new(tokens: usize, exact: bool) -> Self {
        Self { left: tokens, exact }
    }

    fn take(&mut self, len: usize, rng: &mut ChaCha8Rng) -> bool {
        if len <= self.left {
            self.left -= len;
            return true;
        }
        let chance = self.left as f64 / len as f64;
        !self.exact && std::mem::take(&mut self.left) > 0 && rng.random_bool(chance)
    }
}

/// Spans over `words`, as ranges of tokens in order, until the budget is spent. Each begins at a word that is drawn
/// from those not hidden yet.
pub fn spans(
    words: &[Range<usize>],
    mut budget: Budget,
    rng: &mut ChaCha8Rng,
) -> Vec<Range<usize>> {
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.shuffle(rng);
    let (mut hidden, mut spans) = (vec![false; words.len()], Vec::new());
    for start in order {
        if budget.left == 0 {
            break;
        }
        if hidden[start] {
            continue;
        }
        let mut span = words[start].start..words[start].start;
        let end = words.len().min(start + length(rng));
        for (word, hidden) in words[start..end].iter().zip(&mut hidden[start..end]) {
            if *hidden || word.start != span.end || !budget.take(word.len(), rng) {
                break;
            }
            (*hidden, span.end) = (true, word.end);
        }
        if !span.is_empty() {
            spans.push(span);
        }
    }
    spans.sort_unstable_by_key(|span| span.start);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_geometric_up_to_ten() {
        let mut rng = crate::random::generator("test", 1, 0);
        let mut seen = [0.0; LONGEST + 1];
        let n = 100_000.0;
        (0..n as usize).for_each(|_| seen[length(&mut rng)] += 1.0);
        let whole = 1.0 - (1.0 - P).powi(LONGEST as i32);
        let mut mean = 0.0;
        for (words, &seen) in seen.iter().enumerate().skip(1) {
            let share = P * (1.0 - P).powi(words as i32 - 1) / whole;
            let spread = (n * share * (1.0 - share)).sqrt();
            assert!((seen - n * share).abs() < 5.0 * spread, "{words} words: {seen} of {n}");
            mean += words as f64 * seen / n;
        }
        assert!((mean - 3.8).abs() < 0.05, "{mean}");
    }

    /// Words of one token each, far more than the budget wants.
    #[test]
    fn spans_keep_their_lengths_and_the_budget() {
        let words: Vec<_> = (0..100_000).map(|at| at..at + 1).collect();
        let mut rng = crate::random::generator("test", 2, 0);
        let spans = spans(&words, Budget::new(2000, true), &mut rng);
        assert_eq!(spans.iter().map(Range::len).sum::<usize>(), 2000);
        assert!(spans.iter().all(|span| span.len() <= LONGEST));
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let mean = 2000.0 / spans.len() as f64;
        assert!((mean - 3.8).abs() < 0.5, "{mean}");
    }

    #[test]
    fn a_word_over_the_budget_keeps_the_mean() {
        let words: Vec<_> = (0..50).map(|at| at * 3..at * 3 + 3).collect();
        let mut rng = crate::random::generator("test", 3, 0);
        let mut hidden = |exact| -> f64 {
            let spans = spans(&words, Budget::new(10, exact), &mut rng);
            spans.iter().map(Range::len).sum::<usize>() as f64
        };
        let mean = (0..20_000).map(|_| hidden(false)).sum::<f64>() / 20_000.0;
        assert!((mean - 10.0).abs() < 0.06, "{mean}");
        assert_eq!(hidden(true), 9.0);
    }
}
