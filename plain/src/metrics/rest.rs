//! How well classes are told apart, each from the rest.

use rayon::prelude::*;

use super::precision::average_precision;
use super::roc::roc_auc;

/// Areas under two curves, of a class or as the mean over classes; none where they are not defined.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ranking {
    pub auc: Option<f64>,
    pub average_precision: Option<f64>,
}

/// How well a class is told from the rest; nothing where all texts are of it, or none is. Of each text its score and whether
/// it is of the class.
pub fn ranking(texts: &[(f64, bool)]) -> Ranking {
    let auc = roc_auc(texts);
    Ranking { auc, average_precision: auc.and_then(|_| average_precision(texts)) }
}

/// The means over the classes that some texts are of and others are not, each against the rest: where that is so of all
/// classes, scikit-learn's `roc_auc_score(multi_class="ovr")` and `average_precision_score`. `scores` are those of all
/// classes, text after text; `is` says whether a text is of a class.
pub fn one_against_rest(
    scores: &[f32],
    classes: usize,
    is: impl Fn(usize, usize) -> bool + Sync,
) -> Ranking {
    let of_class = |class: usize| {
        let own = scores.chunks_exact(classes).enumerate();
        let own: Vec<_> =
            own.map(|(text, scores)| (f64::from(scores[class]), is(text, class))).collect();
        ranking(&own)
    };
    let all: Vec<Ranking> = (0..classes).into_par_iter().map(of_class).collect();
    let defined = all.iter().filter(|one| one.auc.is_some());
    let mean = |of: fn(&Ranking) -> Option<f64>| {
        let own: Vec<f64> = defined.clone().filter_map(of).collect();
        (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
    };
    Ranking { auc: mean(|one| one.auc), average_precision: mean(|one| one.average_precision) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_against_the_rest() {
        let scores = [0.8, 0.1, 0.1, 0.3, 0.4, 0.3, 0.5, 0.3, 0.2, 0.2, 0.2, 0.6];
        let of = |texts: usize| {
            one_against_rest(&scores[..texts * 3], 3, |text, class| [0, 1, 2, 2][text] == class)
        };
        // 0 is above all, 1 too; of 2 against the rest one score of four is out of order.
        assert_eq!(of(4).auc, Some((1.0 + 1.0 + 0.75) / 3.0));
        assert_eq!(of(4).average_precision, Some((1.0 + 1.0 + (1.0 + 2.0 / 3.0) / 2.0) / 3.0));
        // No text of 2: it does not count.
        assert_eq!(of(2), Ranking { auc: Some(1.0), average_precision: Some(1.0) });
        // All texts are of one class: nothing is told apart.
        assert_eq!(of(1), Ranking::default());
        assert_eq!(of(0), Ranking::default());
    }
}
