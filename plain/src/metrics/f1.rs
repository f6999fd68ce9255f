//! F1 from counts of each class.

use super::confusion::ratio;

/// Of each class, how often it is right, gold and predicted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits(Vec<[u64; 3]>);

impl Hits {
    pub fn new(classes: usize) -> Self {
        Self(vec![[0; 3]; classes])
    }

    /// Takes in `count` texts of these classes, predicted to have those; both in order.
    pub fn add(&mut self, gold: &[u32], pred: &[u32], count: u64) {
        for class in gold {
            self.0[*class as usize][0] += count * u64::from(pred.binary_search(class).is_ok());
            self.0[*class as usize][1] += count;
        }
        pred.iter().for_each(|class| self.0[*class as usize][2] += count);
    }

    /// Of each class, how often it is right, gold and predicted.
    pub fn counts(&self) -> &[[u64; 3]] {
        &self.0
    }

    /// F1 of all classes counted together.
    pub fn micro_f1(&self) -> f64 {
        let sum = |k: usize| self.0.iter().map(|counts| counts[k]).sum::<u64>();
        f1([sum(0), sum(1), sum(2)])
    }

    /// Mean F1 of the classes that occur, as gold or as prediction; 0 of none.
    pub fn macro_f1(&self) -> f64 {
        let occur = || self.0.iter().filter(|[_, gold, pred]| gold + pred > 0);
        ratio(occur().map(|counts| f1(*counts)).sum(), occur().count() as f64)
    }

    /// Mean F1 of all classes, 0 for one that does not occur.
    pub fn macro_f1_of_all(&self) -> f64 {
        ratio(self.0.iter().map(|counts| f1(*counts)).sum(), self.0.len() as f64)
    }
}

/// F1 of a class that is right, gold and predicted so often; 0 where it does not occur.
pub fn f1([hits, gold, pred]: [u64; 3]) -> f64 {
    ratio(2.0 * hits as f64, (gold + pred) as f64)
}
