//! Scores where a text has any number of classes. Definitions as in scikit-learn, of tables of 0 and 1: a class
//! that never occurs, as gold or as prediction, has F1 0.

use std::collections::BTreeMap;

use super::bootstrap::bootstrap;
use super::confusion::{ClassScore, ratio};
use super::f1::{Hits, f1};

/// Counts of each class, and of the texts that have the same classes and are said to have the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MultiLabel {
    classes: usize,
    hits: Hits,
    /// Gold and predicted classes, in order.
    kinds: BTreeMap<[Vec<u32>; 2], u64>,
}

impl MultiLabel {
    pub fn new(classes: usize) -> Self {
        Self { classes, hits: Hits::new(classes), kinds: BTreeMap::new() }
    }

    /// Takes in a text: for each class whether it has it, and whether it is predicted.
    pub fn add(&mut self, pairs: impl IntoIterator<Item = (bool, bool)>) {
        let mut kind = [Vec::new(), Vec::new()];
        for (class, (gold, pred)) in (0..).zip(pairs) {
            kind[0].extend(gold.then_some(class));
            kind[1].extend(pred.then_some(class));
        }
        self.hits.add(&kind[0], &kind[1], 1);
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Texts whose classes are all predicted, and no others; of so many.
    pub fn right(&self) -> (u64, u64) {
        let right = self.kinds.iter().filter(|([gold, pred], _)| gold == pred);
        (right.map(|(_, count)| count).sum(), self.kinds.values().sum())
    }

    /// The share of texts whose classes are all predicted, and no others.
    pub fn accuracy(&self) -> f64 {
        let (right, texts) = self.right();
        ratio(right as f64, texts as f64)
    }

    /// F1 of all classes counted together.
    pub fn micro_f1(&self) -> f64 {
        self.hits.micro_f1()
    }

    /// Mean F1 of all classes.
    pub fn macro_f1(&self) -> f64 {
        self.hits.macro_f1_of_all()
    }

    /// The bootstrap's 95 % intervals of `micro_f1` and `macro_f1`, over texts.
    pub fn f1_intervals(&self) -> [(f64, f64); 2] {
        let (kinds, counts): (Vec<_>, Vec<u64>) = self.kinds.iter().unzip();
        bootstrap(&counts, |counts| {
            let mut hits = Hits::new(self.classes);
            let drawn = kinds.iter().zip(counts).filter(|(_, count)| **count > 0);
            drawn.for_each(|([gold, pred], count)| hits.add(gold, pred, *count));
            [hits.micro_f1(), hits.macro_f1_of_all()]
        })
    }

    /// How it shows, in words, that the model tells nothing apart: it gives every text the same labels, where texts have
    /// several.
    pub fn degenerate(&self, names: &[String]) -> Option<String> {
        let (_, texts) = self.right();
        let counts = || self.hits.counts().iter();
        let same = |k: usize| counts().all(|counts| [0, texts].contains(&counts[k]));
        if same(1) || !same(2) {
            return None;
        }
        let all = names.iter().zip(counts()).filter(|(_, counts)| counts[2] > 0);
        match all.map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => Some("no text is predicted to have a label".into()),
            names => Some(format!("every text is predicted to be {names}")),
        }
    }

    /// Precision, recall and F1 of each class, under its name.
    pub fn per_class(&self, names: &[String]) -> Vec<ClassScore> {
        let score = |(name, &counts): (&String, &[u64; 3])| {
            let [hits, gold, pred] = counts.map(|count| count as f64);
            ClassScore {
                label: name.clone(),
                precision: ratio(hits, pred),
                recall: ratio(hits, gold),
                f1: f1(counts),
                support: counts[1],
            }
        };
        names.iter().zip(self.hits.counts()).map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(texts: &[([u8; 4], [u8; 4])]) -> MultiLabel {
        let mut all = MultiLabel::new(4);
        texts.iter().for_each(|(gold, pred)| {
            all.add(gold.iter().zip(pred).map(|(gold, pred)| (*gold > 0, *pred > 0)));
        });
        all
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a}, not {b}");
    }

    /// Numbers of scikit-learn 1.9.1: accuracy_score, f1_score and precision_recall_fscore_support with zero_division=0.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let all = counted(&[
            ([1, 0, 0, 0], [1, 0, 0, 0]),
            ([1, 1, 0, 0], [0, 1, 0, 0]),
            ([0, 1, 0, 1], [1, 1, 0, 0]),
            ([0, 0, 0, 0], [0, 0, 0, 0]),
            ([1, 1, 0, 1], [1, 1, 0, 1]),
            ([0, 1, 0, 0], [1, 0, 0, 1]),
        ]);
        close(all.accuracy(), 0.5);
        close(all.micro_f1(), 0.6666666666666666);
        close(all.macro_f1(), 0.4821428571428571);
        let wanted = [
            (0.5, 0.6666666666666666, 0.5714285714285714, 3),
            (1.0, 0.75, 0.8571428571428571, 4),
            (0.0, 0.0, 0.0, 0),
            (0.5, 0.5, 0.5, 2),
        ];
        let names = ["a", "b", "c", "d"].map(String::from);
        for (score, (precision, recall, f1, support)) in all.per_class(&names).iter().zip(wanted) {
            close(score.precision, precision);
            close(score.recall, recall);
            close(score.f1, f1);
            assert_eq!(score.support, support);
        }
        assert_eq!(all.degenerate(&names), None);
        assert_eq!(MultiLabel::new(2).micro_f1(), 0.0);
    }

    #[test]
    fn the_same_for_every_text_is_degenerate() {
        let names = ["a", "b", "c", "d"].map(String::from);
        let said = |pred| counted(&[([1, 0, 0, 0], pred), ([0, 1, 0, 0], pred)]).degenerate(&names);
        assert_eq!(said([0; 4]).unwrap(), "no text is predicted to have a label");
        assert_eq!(said([0, 1, 1, 0]).unwrap(), "every text is predicted to be \"b\", \"c\"");
        let alike = [([1, 0, 0, 0], [1, 0, 0, 0]); 2];
        assert_eq!(counted(&alike).degenerate(&names), None);
    }
}
