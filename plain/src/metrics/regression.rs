//! Scores where a number is predicted. Definitions as in scikit-learn and SciPy.

/// Gold and predicted numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Regression {
    pairs: Vec<(f64, f64)>,
}

impl Regression {
    pub fn add(&mut self, gold: f64, pred: f64) {
        self.pairs.push((gold, pred));
    }

    fn mean_of(&self, of: impl Fn(f64, f64) -> f64) -> f64 {
        self.pairs.iter().map(|&(gold, pred)| of(gold, pred)).sum::<f64>()
            / self.pairs.len().max(1) as f64
    }

    /// Mean squared error.
    pub fn mse(&self) -> f64 {
        self.mean_of(|gold, pred| (gold - pred).powi(2))
    }

    /// Mean absolute error.
    pub fn mae(&self) -> f64 {
        self.mean_of(|gold, pred| (gold - pred).abs())
    }

    /// Whether gold, and whether predictions, are more than one number.
    fn varies(&self) -> (bool, bool) {
        let other = |one: f64, other: f64| one != other;
        let pairs = || self.pairs.iter().zip(self.pairs.iter().skip(1));
        (pairs().any(|(a, b)| other(a.0, b.0)), pairs().any(|(a, b)| other(a.1, b.1)))
    }

    /// How it shows, in words, that the model tells nothing apart.
    pub fn degenerate(&self) -> Option<String> {
        let (_, pred) = self.pairs.first().filter(|_| self.varies() == (true, false))?;
        Some(format!("{pred} is predicted for every text"))
    }

    /// Coefficient of determination; none where gold does not vary.
    pub fn r2(&self) -> Option<f64> {
        let mean = self.mean_of(|gold, _| gold);
        let spread = self.mean_of(|gold, _| (gold - mean).powi(2));
        self.varies().0.then(|| 1.0 - self.mse() / spread)
    }

    /// Whether every number is one.
    fn is_finite(&self) -> bool {
        self.pairs.iter().all(|(gold, pred)| gold.is_finite() && pred.is_finite())
    }

    /// Pearson's correlation; none where one side does not vary or has what is no number.
    pub fn pearson(&self) -> Option<f64> {
        let (golds, preds) = (self.mean_of(|gold, _| gold), self.mean_of(|_, pred| pred));
        let both = self.mean_of(|gold, pred| (gold - golds) * (pred - preds));
        let spread = self.mean_of(|gold, _| (gold - golds).powi(2))
            * self.mean_of(|_, pred| (pred - preds).powi(2));
        (self.is_finite() && self.varies() == (true, true)).then(|| both / spread.sqrt())
    }

    /// Spearman's: Pearson's of the ranks, equals sharing theirs.
    pub fn spearman(&self) -> Option<f64> {
        if !self.is_finite() {
            return None;
        }
        let side =
            |of: fn(&(f64, f64)) -> f64| ranks(&self.pairs.iter().map(of).collect::<Vec<_>>());
        let (golds, preds) = (side(|pair| pair.0), side(|pair| pair.1));
        Self { pairs: golds.into_iter().zip(preds).collect() }.pearson()
    }
}

/// The place of each number in their order, from 1; equals have the mean of theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut first = 0;
    for same in order.chunk_by(|&a, &b| numbers[a] == numbers[b]) {
        let rank = first as f64 + (same.len() + 1) as f64 / 2.0;
        same.iter().for_each(|&i| ranks[i] = rank);
        first += same.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scored(pairs: &[(f64, f64)]) -> Regression {
        Regression { pairs: pairs.to_vec() }
    }

    const PAIRS: [(f64, f64); 8] = [
        (0.1, 0.3),
        (2.0, 1.5),
        (1.0, 1.25),
        (-1.5, -0.5),
        (0.0, 0.3),
        (3.25, 2.0),
        (2.0, 2.5),
        (1.0, -1.0),
    ];

    /// Numbers of scikit-learn 1.9.1 (mean_squared_error, mean_absolute_error, r2_score) and SciPy 1.17.1 (pearsonr,
    /// spearmanr).
    #[test]
    fn scores_are_those_of_scikit_learn_and_scipy() {
        let all = scored(&PAIRS);
        for (ours, theirs) in [
            (all.mse(), 0.906875),
            (all.mae(), 0.75),
            (all.r2().unwrap(), 0.520162040386086),
            (all.pearson().unwrap(), 0.7397145533090319),
            (all.spearman().unwrap(), 0.7636503885656767),
        ] {
            assert!((ours - theirs).abs() < 1e-12, "{ours}, not {theirs}");
        }
        assert_eq!(all.degenerate(), None);
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        // Three times 0.1 has a mean that is another number.
        let same = scored(&[(0.1, 2.0), (0.1, 3.0), (0.1, 4.0)]);
        assert_eq!((same.r2(), same.pearson(), same.spearman()), (None, None, None));
        assert_eq!(same.degenerate(), None);
        let constant = scored(&[(1.0, 0.1), (2.0, 0.1), (4.0, 0.1)]);
        assert_eq!((constant.pearson(), constant.spearman()), (None, None));
        assert!(constant.r2().unwrap() < 0.0);
        assert_eq!(constant.degenerate().unwrap(), "0.1 is predicted for every text");
        assert_eq!(ranks(&[3.0, 1.0, 3.0]), [2.5, 1.0, 2.5]);
    }

    proptest! {
        /// Correlations do not see scale and place; Spearman's sees the order alone.
        #[test]
        fn correlations_do_not_see_scale(by in 0.1..10.0f64, from in -5.0..5.0f64) {
            let (all, moved) = (scored(&PAIRS), scored(&PAIRS.map(|(gold, pred)| (gold, pred * by + from))));
            prop_assert!((all.pearson().unwrap() - moved.pearson().unwrap()).abs() < 1e-9);
            let bent = scored(&PAIRS.map(|(gold, pred)| (gold, (pred * by).exp())));
            prop_assert!((all.spearman().unwrap() - bent.spearman().unwrap()).abs() < 1e-12);
        }
    }
}
