//! Average precision.

/// The mean of the precision at every score, weighed by what recall gains there; equal scores are taken in together. Of each
/// text its score and whether it is of the class. None where none is. As scikit-learn's `average_precision_score`.
pub fn average_precision(texts: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = texts.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut seen, mut found, mut sum) = (0, 0, 0.0);
    for equals in sorted.chunk_by(|a, b| a.0 == b.0) {
        let own = equals.iter().filter(|(_, is)| *is).count();
        seen += equals.len();
        found += own;
        sum += own as f64 * found as f64 / seen as f64;
    }
    (found > 0).then(|| sum / found as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 0.8 is one of one, 0.35 is two of three.
        let texts = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        assert_eq!(average_precision(&texts), Some((1.0 + 2.0 / 3.0) / 2.0));
        // Three equals bring two at once: two of three.
        let equals = [(0.5, true), (0.5, true), (0.5, false), (0.4, false)];
        assert_eq!(average_precision(&equals), Some(2.0 / 3.0));
        assert_eq!(average_precision(&[(0.0, true), (-0.0, false)]), Some(0.5));
        assert_eq!(average_precision(&[(0.5, false)]), None);
    }
}
