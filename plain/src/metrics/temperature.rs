//! Temperature scaling: one number that makes probabilities neither too sure nor too unsure.

use rayon::prelude::*;

/// Between these temperatures the best one is looked for.
const RANGE: (f64, f64) = (0.01, 100.0);
/// Texts whose sums are added up at once.
const TEXTS: usize = 1024;

/// The logarithms of probabilities at a temperature, from those at 1: log softmax of logits / T (Guo et al. 2017, section
/// 4.2). Logarithms and logits that softmax makes the same of give the same.
pub fn at_temperature(logs: &[f64], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logs.iter().map(|log| log / temperature).collect();
    let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.iter().map(|log| (log - most).exp()).sum();
    let all = most + sum.ln();
    scaled.into_iter().map(|log| log - all).collect()
}

/// The temperature, in 0.01 to 100, at which the classes of the texts are most probable (Guo et al. 2017, section 4.2).
/// `logs` are the logarithms of the probabilities of all classes, text after text. Where predictions are all right, or
/// have nothing to do with the classes, it is an end of the range. None without texts, or where a logarithm is no number.
pub fn temperature(logs: &[f32], classes: usize, gold: &[u32]) -> Option<f64> {
    if gold.is_empty() || logs.iter().any(|log| log.is_nan()) {
        return None;
    }
    // The loss is convex in 1 / T, and its slope rises.
    let (mut low, mut high) = (1.0 / RANGE.1, 1.0 / RANGE.0);
    let at = |inverse| slopes(logs, classes, gold, inverse);
    if at(low).0 >= 0.0 {
        return Some(RANGE.1);
    }
    if at(high).0 <= 0.0 {
        return Some(RANGE.0);
    }
    let mut inverse = 1.0;
    for _ in 0..200 {
        let (slope, curve) = at(inverse);
        if slope > 0.0 {
            high = inverse
        } else {
            low = inverse
        }
        let newton = inverse - slope / curve;
        let inside = newton > low && newton < high;
        let next = if inside { newton } else { (low + high) / 2.0 };
        let is_there = (next - inverse).abs() <= 1e-12 * inverse;
        inverse = next;
        if is_there {
            break;
        }
    }
    Some(1.0 / inverse)
}

/// First and second derivative of the loss of all texts by 1 / T, there.
fn slopes(logs: &[f32], classes: usize, gold: &[u32], inverse: f64) -> (f64, f64) {
    let add = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
    let of_chunk = |(logs, gold): (&[f32], &[u32])| {
        let texts = logs.chunks_exact(classes).zip(gold);
        texts.map(|(logs, gold)| slope(logs, *gold as usize, inverse)).fold((0.0, 0.0), add)
    };
    let chunks = logs.par_chunks(TEXTS * classes).zip(gold.par_chunks(TEXTS));
    // In order, so that threads change no bit.
    chunks.map(of_chunk).collect::<Vec<_>>().into_iter().fold((0.0, 0.0), add)
}

/// Mean less that of the text's class, and variance, of the logarithms under the scaled probabilities.
fn slope(logs: &[f32], gold: usize, inverse: f64) -> (f64, f64) {
    let most = f64::from(logs.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
    // What has no probability weighs nothing, though its logarithm has no end.
    for log in logs.iter().map(|log| f64::from(*log) - most).filter(|log| log.is_finite()) {
        let weight = (log * inverse).exp();
        sum += weight;
        mean += weight * log;
        square += weight * log * log;
    }
    mean /= sum;
    (mean - (f64::from(logs[gold]) - most), square / sum - mean * mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes of log odds 2: the best temperature makes of them the log odds of the share that is right.
    #[test]
    fn by_hand() {
        let text = at_temperature(&[2.0, 0.0], 1.0);
        let logs: Vec<f32> = text.iter().cycle().take(8).map(|log| *log as f32).collect();
        let best = temperature(&logs, 2, &[0, 0, 0, 1]).unwrap();
        assert!((best - 2.0 / 3f64.ln()).abs() < 1e-6, "{best}");
        let scaled = at_temperature(&text, best);
        assert!((scaled[0].exp() - 0.75).abs() < 1e-6, "{scaled:?}");
    }

    #[test]
    fn where_there_is_no_best_one_it_is_an_end() {
        let logs = [0.8f32, 0.2, 0.2, 0.8].map(f32::ln);
        assert_eq!(temperature(&logs, 2, &[0, 1]), Some(0.01));
        assert_eq!(temperature(&logs, 2, &[1, 0]), Some(100.0));
        assert_eq!(temperature(&[0.0, 0.0], 1, &[0, 0]), Some(100.0));
        assert_eq!(temperature(&[], 2, &[]), None);
        assert_eq!(temperature(&[f32::NAN, 0.0], 2, &[0]), None);
        // The text's class was not possible.
        assert_eq!(temperature(&[f32::NEG_INFINITY, 0.0], 2, &[0]), Some(100.0));
    }

    #[test]
    fn at_one_nothing_changes() {
        let logs = [0.5f64, 0.3, 0.2].map(f64::ln);
        for (ours, log) in at_temperature(&logs, 1.0).iter().zip(logs) {
            assert!((ours - log).abs() < 1e-15);
        }
        let hot = at_temperature(&logs, 1e9);
        assert!(hot.iter().all(|log| (log.exp() - 1.0 / 3.0).abs() < 1e-8), "{hot:?}");
    }
}
