//! What a classifier says of texts in one or several windows: the mean of the windows' probabilities.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::batches::Item;
use super::evaluate::sweep;
use crate::model::SequenceClassifier;
use crate::nn::Ids;

/// Calls `each` with every text's number and the logarithms of its probabilities, in no fixed order. `texts` says which
/// sequences each text is in, `lengths` has the tokens of every sequence.
pub fn classify(
    model: &SequenceClassifier,
    ids: &dyn Fn(usize) -> Ids,
    lengths: &[usize],
    texts: &[Range<usize>],
    device: Device,
    each: &mut dyn FnMut(usize, Vec<f64>),
) -> Result<()> {
    let text_of: Vec<usize> =
        texts.iter().enumerate().flat_map(|(text, of)| of.clone().map(move |_| text)).collect();
    let mut begun: HashMap<usize, Vec<Vec<f64>>> = HashMap::new();
    let item = |i: usize| Item { ids: ids(i), ..Item::default() };
    sweep(&item, lengths, device, &mut |group, micro| {
        let logs = log_probabilities(&model.logits(&micro.batch, false))?;
        for (&i, logs) in group.iter().zip(logs) {
            let (text, windows) = (text_of[i], texts[text_of[i]].len());
            let all = begun.entry(text).or_default();
            all.push(logs);
            if all.len() == windows {
                each(text, mean(&begun.remove(&text).unwrap_or_default()));
            }
        }
        Ok(())
    })
}

/// Logarithms of the probabilities of each row, from logits `[rows, classes]`.
fn log_probabilities(logits: &Tensor) -> Result<Vec<Vec<f64>>> {
    let logs = logits.to_device(Device::Cpu).log_softmax(-1, Kind::Double);
    Ok(Vec::<Vec<f64>>::try_from(logs)?)
}

/// The logarithm of the mean of probabilities, class by class, from their logarithms `[windows][classes]`.
fn mean(windows: &[Vec<f64>]) -> Vec<f64> {
    let first = match windows {
        [] => return Vec::new(),
        [one] => return one.clone(),
        [first, ..] => first,
    };
    let of = |class: usize| {
        let logs = windows.iter().map(|window| window[class]);
        let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
        if most == f64::NEG_INFINITY {
            return most;
        }
        let sum: f64 = logs.map(|log| (log - most).exp()).sum();
        most + (sum / windows.len() as f64).ln()
    };
    (0..first.len()).map(of).collect()
}

/// Probabilities from their logarithms.
pub fn probabilities(logs: &[f64]) -> Vec<f32> {
    logs.iter().map(|log| log.exp() as f32).collect()
}

/// The most probable class; the first of equals.
pub fn best(probs: &[f32]) -> usize {
    (0..probs.len()).fold(0, |best, i| if probs[i] > probs[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn means_are_of_probabilities() {
        let logs = |probs: [f64; 2]| probs.map(f64::ln).to_vec();
        assert_eq!(mean(&[logs([0.25, 0.75])]), logs([0.25, 0.75]));
        for (mean, wanted) in
            mean(&[logs([0.2, 0.8]), logs([0.6, 0.4]), logs([1.0, 0.0])]).iter().zip([0.6, 0.4])
        {
            assert!((mean.exp() - wanted).abs() < 1e-12, "{mean}");
        }
        assert_eq!(mean(&[logs([0.0, 1.0]), logs([0.0, 1.0])])[0], f64::NEG_INFINITY);
        // Beyond what a probability in f32 or f64 could hold.
        assert!((mean(&[vec![-800.0], vec![-800.0]])[0] + 800.0).abs() < 1e-9);
    }
}
