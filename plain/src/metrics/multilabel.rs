//! Scores where a text has any number of classes. Definitions as in scikit-learn, of tables of 0 and 1: a class
//! that never occurs, as gold or as prediction, has F1 0.

use super::confusion::{ClassScore, ratio};
use super::f1::f1;

/// Counts of each class, and of texts that are right as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MultiLabel {
    /// Right, gold and predicted, of each class.
    counts: Vec<[u64; 3]>,
    texts: u64,
    right: u64,
}

impl MultiLabel {
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![[0; 3]; classes], texts: 0, right: 0 }
    }

    /// Takes in a text: for each class whether it has it, and whether it is predicted.
    pub fn add(&mut self, pairs: impl IntoIterator<Item = (bool, bool)>) {
        let mut right = true;
        for (counts, (gold, pred)) in self.counts.iter_mut().zip(pairs) {
            right &= gold == pred;
            for (count, is) in counts.iter_mut().zip([gold && pred, gold, pred]) {
                *count += u64::from(is);
            }
        }
        self.texts += 1;
        self.right += u64::from(right);
    }

    /// Texts whose classes are all predicted, and no others; of so many.
    pub fn right(&self) -> (u64, u64) {
        (self.right, self.texts)
    }

    /// The share of texts whose classes are all predicted, and no others.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right as f64, self.texts as f64)
    }

    /// F1 of all classes counted together.
    pub fn micro_f1(&self) -> f64 {
        let sum = |k: usize| self.counts.iter().map(|counts| counts[k]).sum::<u64>();
        f1([sum(0), sum(1), sum(2)])
    }

    /// Mean F1 of all classes.
    pub fn macro_f1(&self) -> f64 {
        ratio(self.counts.iter().copied().map(f1).sum(), self.counts.len() as f64)
    }

    /// How it shows, in words, that the model tells nothing apart: it gives every text the same labels, where texts have
    /// several.
    pub fn degenerate(&self, names: &[String]) -> Option<String> {
        let same = |k: usize| self.counts.iter().all(|counts| [0, self.texts].contains(&counts[k]));
        if same(1) || !same(2) {
            return None;
        }
        let all = names.iter().zip(&self.counts).filter(|(_, counts)| counts[2] > 0);
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
        names.iter().zip(&self.counts).map(score).collect()
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
