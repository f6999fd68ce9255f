//! Whether a classifier is as often right as it says.

/// Predictions of about the same probability.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    pub count: u64,
    /// Mean probability; 0 of none.
    pub said: f64,
    /// The share that is right; 0 of none.
    pub right: f64,
}

/// The bins of a reliability diagram: `(k / bins, (k + 1) / bins]` for each k, the first with 0. Of each prediction its
/// probability, in 0 to 1, and whether it is right. As scikit-learn's `calibration_curve`, which leaves out empty bins.
pub fn reliability(predictions: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let mut all = vec![Bin::default(); bins.max(1)];
    let last = all.len() - 1;
    let edges: Vec<f64> = (1..=last).map(|k| k as f64 / all.len() as f64).collect();
    for &(said, right) in predictions {
        let bin = &mut all[edges.partition_point(|edge| *edge < said)];
        bin.count += 1;
        bin.said += said;
        bin.right += f64::from(u8::from(right));
    }
    for bin in all.iter_mut().filter(|bin| bin.count > 0) {
        bin.said /= bin.count as f64;
        bin.right /= bin.count as f64;
    }
    all
}

/// Expected calibration error (Guo et al. 2017, section 2): how far the bins are from the diagonal, each weighed by its count.
/// 0 without predictions.
pub fn calibration_error(bins: &[Bin]) -> f64 {
    let all: u64 = bins.iter().map(|bin| bin.count).sum();
    let far = bins.iter().map(|bin| bin.count as f64 * (bin.said - bin.right).abs());
    far.sum::<f64>() / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let said =
            [(0.0, false), (0.25, true), (0.5, true), (0.75, false), (1.0, true), (0.875, true)];
        let bins = reliability(&said, 2);
        // 0, 0.25 and 0.5 lie in the first; 0.75, 0.875 and 1 in the second.
        assert_eq!(bins[0], Bin { count: 3, said: 0.25, right: 2.0 / 3.0 });
        assert_eq!(bins[1], Bin { count: 3, said: 0.875, right: 2.0 / 3.0 });
        let wanted = ((2.0 / 3.0 - 0.25) + (0.875 - 2.0 / 3.0)) / 2.0;
        assert!((calibration_error(&bins) - wanted).abs() < 1e-15);
    }

    #[test]
    fn bins_without_predictions_count_nothing() {
        assert_eq!(calibration_error(&reliability(&[], 10)), 0.0);
        let bins = reliability(&[(1.0, true)], 10);
        assert_eq!((bins[9].count, calibration_error(&bins)), (1, 0.0));
    }
}
