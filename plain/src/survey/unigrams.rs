//! Words and how often they occur; how alike two such counts are.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::lengths::ratio;

/// English words that tell nothing of a subject: articles, pronouns, prepositions, conjunctions, auxiliaries, and what
/// an apostrophe leaves of them.
static STOP_WORDS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("stopwords.txt").split_whitespace().collect());

/// How often each unigram occurs: runs of at least two letters or digits in lower case, stop words left out.
#[derive(Debug, Default)]
pub struct Unigrams {
    counts: HashMap<String, u64>,
    total: u64,
}

/// The most frequent unigrams of two texts, as many of each.
#[derive(Debug, PartialEq)]
pub struct Overlap<'a> {
    /// Unigrams of each.
    pub size: usize,
    /// Unigrams of both.
    pub shared: usize,
    /// Those of each that are not among the other's, the most frequent first.
    pub only: [Vec<&'a str>; 2],
}

impl Unigrams {
    pub fn add(&mut self, text: &str) {
        let text = text.to_lowercase();
        let words = text.split(|c: char| !c.is_alphanumeric());
        for word in words.filter(|word| word.chars().nth(1).is_some()) {
            if !STOP_WORDS.contains(word) {
                self.add_word(word);
            }
        }
    }

    fn add_word(&mut self, word: &str) {
        self.total += 1;
        match self.counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(word.to_owned(), 1);
            }
        }
    }

    /// Unigrams that differ.
    pub fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// The `n` most frequent, ties in the order of the alphabet.
    fn top(&self, n: usize) -> Vec<&str> {
        let mut all: Vec<(&String, &u64)> = self.counts.iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        all.into_iter().take(n).map(|(word, _)| word.as_str()).collect()
    }

    /// The share of these unigrams, as often as they occur, that never occur in `other`.
    pub fn unseen_in(&self, other: &Unigrams) -> f64 {
        let unseen = self.counts.iter().filter(|(word, _)| !other.counts.contains_key(*word));
        ratio(unseen.map(|(_, count)| count).sum(), self.total)
    }

    /// Jensen-Shannon divergence of the two distributions in bits: 0 where they are equal, 1 where no word is in both.
    pub fn divergence(&self, other: &Unigrams) -> f64 {
        let mut words: Vec<&String> = self.counts.keys().chain(other.counts.keys()).collect();
        // The order of the sum must not depend on the hash map's.
        words.sort_unstable();
        words.dedup();
        let share =
            |of: &Unigrams, word| ratio(of.counts.get(word).copied().unwrap_or(0), of.total);
        let bits = |p: f64, mean: f64| if p > 0.0 { p * (p / mean).log2() } else { 0.0 };
        let of_word = |word| {
            let (p, q) = (share(self, word), share(other, word));
            let mean = (p + q) / 2.0;
            (bits(p, mean) + bits(q, mean)) / 2.0
        };
        words.into_iter().map(of_word).sum::<f64>().clamp(0.0, 1.0)
    }
}

/// The `most` most frequent unigrams of each, or as many as the poorer of the two has (Gururangan et al. 2020, section
/// 3.1, where `most` is 10,000).
pub fn overlap<'a>(a: &'a Unigrams, b: &'a Unigrams, most: usize) -> Overlap<'a> {
    let size = most.min(a.distinct()).min(b.distinct());
    let [a, b] = [a.top(size), b.top(size)];
    let [in_a, in_b] = [&a, &b].map(|words| words.iter().copied().collect::<HashSet<&str>>());
    let without = |words: Vec<&'a str>, other: &HashSet<&str>| -> Vec<&'a str> {
        words.into_iter().filter(|word| !other.contains(word)).collect()
    };
    let shared = in_a.intersection(&in_b).count();
    Overlap { size, shared, only: [without(a, &in_b), without(b, &in_a)] }
}

impl Overlap<'_> {
    /// The share of each that is in both, 0 to 1.
    pub fn share(&self) -> f64 {
        ratio(self.shared as u64, self.size as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unigrams(texts: &[&str]) -> Unigrams {
        let mut unigrams = Unigrams::default();
        texts.iter().for_each(|text| unigrams.add(text));
        unigrams
    }

    #[test]
    fn words_are_folded_and_stop_words_left_out() {
        let words = unigrams(&["The Oil-price of OIL, we don't 7 70 été\u{a0}Été x"]);
        assert_eq!(words.top(9), ["oil", "été", "70", "price"]);
        assert_eq!((words.total, words.distinct()), (6, 4));
    }

    #[test]
    fn overlap_by_hand() {
        let a = unigrams(&["oil oil oil bank bank rate gene gene"]);
        let b = unigrams(&["gene gene cell oil rate"]);
        let found = overlap(&a, &b, 3);
        let only = [vec!["bank"], vec!["cell"]];
        assert_eq!(found, Overlap { size: 3, shared: 2, only });
        assert_eq!(overlap(&a, &b, 10_000).size, 4);
        assert_eq!(b.unseen_in(&a), 0.2);
        assert_eq!(a.unseen_in(&b), 0.25);
    }

    #[test]
    fn divergence_by_hand() {
        let [a, b, none] = [unigrams(&["oil"]), unigrams(&["oil gene"]), unigrams(&[])];
        let wanted = (4f64 / 3.0).log2() / 2.0 + (0.5 * (2f64 / 3.0).log2() + 0.5) / 2.0;
        assert!((a.divergence(&b) - wanted).abs() < 1e-12);
        assert_eq!(a.divergence(&unigrams(&["cell"])), 1.0);
        assert_eq!((none.divergence(&none), overlap(&none, &a, 10).share()), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn both_ways_are_one(a in "[a-f ]{2,80}", b in "[a-f ]{2,80}", most in 1..20usize) {
            let (a, b) = (unigrams(&[&a]), unigrams(&[&b]));
            let (to, fro) = (overlap(&a, &b, most), overlap(&b, &a, most));
            prop_assert_eq!((to.size, to.shared), (fro.size, fro.shared));
            prop_assert_eq!(&to.only[0], &fro.only[1]);
            prop_assert!(to.only.iter().all(|only| only.len() + to.shared == to.size));
            prop_assert_eq!(a.divergence(&b), b.divergence(&a));
            prop_assert!((0.0..=1.0).contains(&a.divergence(&b)));
        }

        #[test]
        fn alone_it_is_all(text in "[a-f]{2,9}( [a-f]{2,9}){0,30}", most in 1..20usize) {
            let words = unigrams(&[&text]);
            prop_assume!(words.distinct() > 0);
            prop_assert_eq!(overlap(&words, &words, most).share(), 1.0);
            prop_assert_eq!((words.divergence(&words), words.unseen_in(&words)), (0.0, 0.0));
        }
    }
}
