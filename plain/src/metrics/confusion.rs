//! The confusion matrix and what follows from it. Definitions and edge cases as in scikit-learn.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};

use super::bootstrap::bootstrap;
use super::f1::{Hits, f1};

/// Classes up to which the matrix is written out whole.
const DENSE: usize = 1000;

/// Counts of (gold, predicted) classes; only pairs that occur take space.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    counts: BTreeMap<(usize, usize), u64>,
    gold: Vec<u64>,
    pred: Vec<u64>,
}

/// Scores of one class; 0 where they are not defined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    pub label: String,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Examples of this class.
    pub support: u64,
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Self { counts: BTreeMap::new(), gold: vec![0; classes], pred: vec![0; classes] }
    }

    pub fn add(&mut self, gold: usize, pred: usize) {
        *self.counts.entry((gold, pred)).or_default() += 1;
        self.gold[gold] += 1;
        self.pred[pred] += 1;
    }

    pub fn count(&self, gold: usize, pred: usize) -> u64 {
        self.counts.get(&(gold, pred)).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.gold.iter().sum()
    }

    fn classes(&self) -> Range<usize> {
        0..self.gold.len()
    }

    fn hits(&self, class: usize) -> f64 {
        self.count(class, class) as f64
    }

    /// The matrix with its axes named: rows are gold, columns predictions. Beyond 1,000 classes only the `cells`
    /// that are not 0, as [gold, pred, count].
    pub fn to_json(&self, names: &[String]) -> Value {
        if names.len() > DENSE {
            let cells: Vec<_> =
                self.counts.iter().map(|(&(g, p), n)| json!([names[g], names[p], n])).collect();
            return json!({"cells": cells});
        }
        let row = |gold| self.classes().map(|pred| self.count(gold, pred)).collect::<Vec<_>>();
        let counts: Vec<_> = self.classes().map(row).collect();
        json!({"gold": names, "pred": names, "counts": counts})
    }

    /// Examples that are right.
    pub fn right(&self) -> u64 {
        self.classes().map(|class| self.count(class, class)).sum()
    }

    pub fn accuracy(&self) -> f64 {
        ratio(self.right() as f64, self.total() as f64)
    }

    /// Over all classes at once; with one label an example this is the accuracy.
    pub fn micro_f1(&self) -> f64 {
        self.accuracy()
    }

    fn f1(&self, class: usize) -> f64 {
        f1([self.count(class, class), self.gold[class], self.pred[class]])
    }

    /// Mean F1 of the classes that occur, as gold or as prediction.
    pub fn macro_f1(&self) -> f64 {
        let seen: Vec<usize> =
            self.classes().filter(|&c| self.gold[c] + self.pred[c] > 0).collect();
        ratio(seen.iter().map(|&c| self.f1(c)).sum(), seen.len() as f64)
    }

    /// The bootstrap's 95 % interval of `macro_f1`, over texts.
    pub fn macro_f1_interval(&self) -> (f64, f64) {
        // Classes that do not occur cost nothing.
        let occur: Vec<usize> =
            self.classes().filter(|&c| self.gold[c] + self.pred[c] > 0).collect();
        let place = |class: usize| [occur.partition_point(|&other| other < class) as u32];
        let cells = self.counts.keys().map(|&(gold, pred)| (place(gold), place(pred)));
        let cells: Vec<_> = cells.collect();
        let counts: Vec<u64> = self.counts.values().copied().collect();
        let [interval] = bootstrap(&counts, |counts| {
            let mut hits = Hits::new(occur.len());
            let drawn = cells.iter().zip(counts).filter(|(_, count)| **count > 0);
            drawn.for_each(|((gold, pred), count)| hits.add(gold, pred, *count));
            [hits.macro_f1()]
        });
        interval
    }

    /// Matthews correlation, multi-class (Gorodkin 2004).
    pub fn mcc(&self) -> f64 {
        let n = self.total() as f64;
        let (mut both, mut gold, mut pred) = (0.0, 0.0, 0.0);
        for class in self.classes() {
            let (g, p) = (self.gold[class] as f64, self.pred[class] as f64);
            both += g * p;
            gold += g * g;
            pred += p * p;
        }
        let spread = ((n * n - pred) * (n * n - gold)).sqrt();
        ratio(self.accuracy() * n * n - both, spread)
    }

    /// How it shows, in words, that the model tells nothing apart: it names one class for texts of several, or it is
    /// right no more often than always naming the most frequent class would be, and by no more than chance.
    pub fn degenerate(&self, names: &[String]) -> Option<String> {
        let of_all = |counts: &[u64]| counts.iter().filter(|&&count| count > 0).count();
        if of_all(&self.gold) < 2 {
            return None;
        }
        if of_all(&self.pred) == 1 {
            let only = self.pred.iter().position(|&count| count > 0)?;
            return Some(format!("every text is predicted to be {:?}", names[only]));
        }
        let most = self.classes().max_by_key(|&class| (self.gold[class], Reverse(class)))?;
        // The root of n times MCC is about normal where predictions have nothing to do with the classes.
        let n = self.total() as f64;
        let chance = self.mcc() * n.sqrt() < 2.0;
        let right = self.right() as f64;
        (chance && right <= self.gold[most] as f64)
            .then(|| format!("no better than always {:?}: accuracy {:.4}", names[most], right / n))
    }

    /// Precision, recall and F1 of each class, under its name.
    pub fn per_class(&self, names: &[String]) -> Vec<ClassScore> {
        let score = |(class, name): (usize, &String)| {
            let hits = self.hits(class);
            ClassScore {
                label: name.clone(),
                precision: ratio(hits, self.pred[class] as f64),
                recall: ratio(hits, self.gold[class] as f64),
                f1: self.f1(class),
                support: self.gold[class],
            }
        };
        names.iter().enumerate().map(score).collect()
    }
}

/// A share; 0 of nothing.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(counts: &[&[u64]]) -> Confusion {
        let mut confusion = Confusion::new(counts.len());
        for (gold, row) in counts.iter().enumerate() {
            for (pred, &count) in row.iter().enumerate() {
                (0..count).for_each(|_| confusion.add(gold, pred));
            }
        }
        confusion
    }

    #[test]
    fn scores_by_hand() {
        let c = confusion(&[&[5, 1, 0], &[2, 3, 1], &[0, 0, 4]]);
        assert_eq!(c.total(), 16);
        assert!((c.accuracy() - 0.75).abs() < 1e-12);
        let f1 = [10.0 / 13.0, 6.0 / 10.0, 8.0 / 9.0];
        assert!((c.macro_f1() - f1.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        // (12*16 - (6*7+6*4+4*5)) / sqrt((256-90)(256-88))
        assert!((c.mcc() - 106.0 / (166f64 * 168.0).sqrt()).abs() < 1e-12);
        let names = ["a", "b", "c"].map(String::from);
        let a = &c.per_class(&names)[0];
        assert_eq!((a.precision, a.recall, a.support), (5.0 / 7.0, 5.0 / 6.0, 6));
    }

    #[test]
    fn a_class_that_never_occurs_does_not_count() {
        let c = confusion(&[&[2, 0, 0], &[0, 2, 0], &[0, 0, 0]]);
        assert_eq!(c.macro_f1(), 1.0);
    }

    #[test]
    fn what_tells_nothing_apart_is_named() {
        let names = ["a", "b"].map(String::from);
        let said = |counts: &[&[u64]]| confusion(counts).degenerate(&names).unwrap_or_default();
        assert_eq!(said(&[&[0, 6], &[0, 4]]), r#"every text is predicted to be "b""#);
        assert_eq!(said(&[&[30, 30], &[21, 19]]), r#"no better than always "a": accuracy 0.4900"#);
        // Rare classes found at the cost of the frequent one: less accurate, but something was learnt.
        assert_eq!(said(&[&[60, 30], &[0, 10]]), "");
        // One class only: nothing to tell apart.
        assert_eq!(said(&[&[9, 0], &[0, 0]]), "");
        assert_eq!(said(&[&[9, 1], &[2, 8]]), "");
    }

    #[test]
    fn the_interval_of_macro_f1_holds_it() {
        let counts: &[&[u64]] = &[&[50, 10, 0], &[20, 30, 10], &[0, 0, 40]];
        let c = confusion(counts);
        let (low, high) = c.macro_f1_interval();
        assert!(low < c.macro_f1() && c.macro_f1() < high, "{low} {high}");
        assert!(high - low < 0.2, "{low} {high}");
        // Four times the texts, half the width.
        let more: Vec<Vec<u64>> =
            counts.iter().map(|row| row.iter().map(|n| n * 4).collect()).collect();
        let more = confusion(&more.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let (from, to) = more.macro_f1_interval();
        assert!((2.0 * (to - from) / (high - low) - 1.0).abs() < 0.1, "{from} {to}");
        assert_eq!(confusion(&[&[3, 0], &[0, 4]]).macro_f1_interval(), (1.0, 1.0));
    }

    #[test]
    fn one_class_and_nothing_are_defined() {
        assert_eq!(confusion(&[&[3]]).macro_f1_interval(), (1.0, 1.0));
        assert_eq!(Confusion::new(0).macro_f1_interval(), (0.0, 0.0));
        assert_eq!(confusion(&[&[3]]).mcc(), 0.0);
        let empty = Confusion::new(0);
        assert_eq!((empty.accuracy(), empty.macro_f1(), empty.mcc()), (0.0, 0.0, 0.0));
    }
}
