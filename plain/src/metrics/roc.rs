//! The area under the ROC curve.

/// Of a random text that is of the class and one that is not, how often the first has the higher score; equal scores count
/// half. Of each text its score and whether it is of the class. None where all are, or none is.
pub fn roc_auc(texts: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = texts.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut yes, mut no, mut above) = (0.0, 0.0, 0.0);
    for equals in sorted.chunk_by(|a, b| a.0 == b.0) {
        let own = equals.iter().filter(|(_, is)| *is).count() as f64;
        let others = equals.len() as f64 - own;
        above += own * (no + others / 2.0);
        yes += own;
        no += others;
    }
    (yes > 0.0 && no > 0.0).then(|| above / (yes * no))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Of four pairs three are in order.
        assert_eq!(roc_auc(&[(0.1, false), (0.4, false), (0.35, true), (0.8, true)]), Some(0.75));
        // Of four pairs three are in order, and one is equal.
        assert_eq!(roc_auc(&[(0.5, true), (0.5, false), (0.9, true), (0.1, false)]), Some(0.875));
        assert_eq!(roc_auc(&[(0.0, true), (-0.0, false)]), Some(0.5));
        assert_eq!(roc_auc(&[(0.3, true)]), None);
        assert_eq!(roc_auc(&[]), None);
    }
}
