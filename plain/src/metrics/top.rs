//! Accuracy where more than one guess is allowed.

use super::confusion::ratio;

/// The share of texts whose class is among the `k` of the highest scores. Of each text the scores of all classes, and its
/// class. Of equal scores the later class counts as the higher, as in scikit-learn's `top_k_accuracy_score`.
pub fn top_k_accuracy(texts: &[(Vec<f64>, usize)], k: usize) -> f64 {
    let above = |scores: &[f64], class: usize| {
        let own = scores[class];
        let beats =
            |(other, score): (usize, &f64)| *score > own || (*score == own && other > class);
        scores.iter().enumerate().filter(|&at| beats(at)).count()
    };
    let right = texts.iter().filter(|(scores, class)| above(scores, *class) < k).count();
    ratio(right as f64, texts.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let texts = [
            (vec![0.5, 0.3, 0.2], 0),
            (vec![0.5, 0.3, 0.2], 1),
            (vec![0.5, 0.3, 0.2], 2),
            // Equals: the later one comes first.
            (vec![0.4, 0.4, 0.2], 0),
        ];
        assert_eq!([1, 2, 3].map(|k| top_k_accuracy(&texts, k)), [0.25, 0.75, 1.0]);
        assert_eq!(top_k_accuracy(&texts[3..], 1), 0.0);
        assert_eq!(top_k_accuracy(&[(vec![0.4, 0.4, 0.2], 1)], 1), 1.0);
        assert_eq!(top_k_accuracy(&[], 1), 0.0);
    }
}
