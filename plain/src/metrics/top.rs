//! Accuracy where more than one guess is allowed.

/// Whether a class is among those of the `k` highest scores. Of equal scores the later class counts as the higher, as in
/// scikit-learn's `top_k_accuracy_score`.
pub fn is_among_top(scores: &[f32], class: usize, k: usize) -> bool {
    let own = scores[class];
    let beats = |(other, score): (usize, &f32)| *score > own || (*score == own && other > class);
    scores.iter().enumerate().filter(|&at| beats(at)).take(k).count() < k
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let scores = [0.5, 0.3, 0.2];
        for class in 0..3 {
            let among = [1, 2, 3].map(|k| is_among_top(&scores, class, k));
            assert_eq!(among, [1, 2, 3].map(|k| k > class));
        }
        // Equals: the later one comes first.
        let equals = [0.4, 0.4, 0.2];
        assert_eq!([0, 1].map(|class| is_among_top(&equals, class, 1)), [false, true]);
        assert!(is_among_top(&equals, 0, 2) && is_among_top(&[1.0], 0, 2));
    }
}
