//! What a classifier says of texts in one or several windows: the mean of the windows' probabilities.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::batches::{self, Item};
use super::evaluate::sweep;
use crate::metrics::at_temperature;
use crate::model::SequenceClassifier;
use crate::native::Place;
use crate::nn::Ids;
use crate::shard::Problem;
use crate::text::Encoded;

/// Calls `each` with every text's number and what the model says of it, in no fixed order: logarithms of probabilities,
/// where a text has any number of classes followed by those of the contrary; or the number. `texts` says which
/// sequences each text is in, `lengths` has the tokens of every sequence.
pub fn classify(
    (model, problem): (&SequenceClassifier, Problem),
    ids: &dyn Fn(usize) -> Ids,
    lengths: &[usize],
    texts: &[Range<usize>],
    place: Place,
    each: &mut dyn FnMut(usize, Vec<f64>),
) -> Result<()> {
    let text_of: Vec<usize> =
        texts.iter().enumerate().flat_map(|(text, of)| of.clone().map(move |_| text)).collect();
    let mut begun: HashMap<usize, Vec<Vec<f64>>> = HashMap::new();
    let item = |i: usize| Item { ids: ids(i), ..Item::default() };
    sweep(&item, lengths, place, &mut |group, micro| {
        let logs = said(&model.logits(&micro.batch, false), problem)?;
        for (&i, logs) in group.iter().zip(logs) {
            let (text, windows) = (text_of[i], texts[text_of[i]].len());
            let all = begun.entry(text).or_default();
            all.push(logs);
            if all.len() == windows {
                each(text, mean(&begun.remove(&text).unwrap_or_default(), problem));
            }
        }
        Ok(())
    })
}

/// What the model says of every text, in the texts' order: the probability of each class at this temperature, or the
/// number. `texts` are the windows of each.
pub fn of_texts(
    model: (&SequenceClassifier, Problem),
    texts: Vec<Vec<Encoded>>,
    (temperature, place): (f64, Place),
) -> Result<Vec<Vec<f32>>> {
    let mut all = vec![Vec::new(); texts.len()];
    let (mut sequences, mut windows): (Vec<Ids>, _) = (Vec::new(), Vec::new());
    for pieces in texts {
        let start = sequences.len();
        sequences.extend(pieces.into_iter().map(batches::ids));
        windows.push(start..sequences.len());
    }
    let lengths: Vec<usize> = sequences.iter().map(|ids| ids.tokens.len()).collect();
    let item = |i: usize| sequences[i].clone();
    classify(model, &item, &lengths, &windows, place, &mut |text, logs| {
        all[text] = answer(&tempered(logs, model.1, temperature), model.1);
    })?;
    Ok(all)
}

/// What `classify` gives, at another temperature than 1.
fn tempered(said: Vec<f64>, problem: Problem, temperature: f64) -> Vec<f64> {
    if temperature == 1.0 {
        return said;
    }
    match problem {
        Problem::Classes => at_temperature(&said, temperature),
        // Each class against its contrary.
        Problem::MultiLabel => {
            let (yes, no) = said.split_at(said.len() / 2);
            let both =
                yes.iter().zip(no).map(|(yes, no)| at_temperature(&[*yes, *no], temperature));
            let both: Vec<_> = both.collect();
            [0, 1].iter().flat_map(|&side| both.iter().map(move |pair| pair[side])).collect()
        }
        Problem::Regression => said,
    }
}

/// What logits `[rows, outputs]` say of each row.
fn said(logits: &Tensor, problem: Problem) -> Result<Vec<Vec<f64>>> {
    let logits = logits.to_device(Device::Cpu).to_kind(Kind::Double);
    let said = match problem {
        Problem::Classes => logits.log_softmax(-1, Kind::Double),
        Problem::MultiLabel => Tensor::cat(&[logits.log_sigmoid(), (-&logits).log_sigmoid()], -1),
        Problem::Regression => logits,
    };
    Ok(Vec::<Vec<f64>>::try_from(said)?)
}

/// What is said of a text in several windows: the mean number, or the logarithm of the mean of probabilities, class by
/// class, from their logarithms `[windows][classes]`.
fn mean(windows: &[Vec<f64>], problem: Problem) -> Vec<f64> {
    let first = match windows {
        [] => return Vec::new(),
        [one] => return one.clone(),
        [first, ..] => first,
    };
    if problem == Problem::Regression {
        let sum: f64 = windows.iter().map(|window| window[0]).sum();
        return vec![sum / windows.len() as f64];
    }
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

/// The probability of each class, or the number, from what `classify` gives.
pub fn answer(said: &[f64], problem: Problem) -> Vec<f32> {
    let probabilities = |logs: &[f64]| logs.iter().map(|log| log.exp() as f32).collect();
    match problem {
        Problem::Classes => probabilities(said),
        Problem::MultiLabel => probabilities(&said[..said.len() / 2]),
        Problem::Regression => said.iter().map(|&number| number as f32).collect(),
    }
}

/// The most probable class; the first of equals.
pub fn best(probs: &[f32]) -> usize {
    (0..probs.len()).fold(0, |best, i| if probs[i] > probs[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_divides_logits() {
        let close = |ours: Vec<f64>, wanted: &[f64]| {
            let far =
                ours.iter().zip(wanted).any(|(ours, wanted)| (ours.exp() - wanted).abs() > 1e-12);
            assert!(!far && ours.len() == wanted.len(), "{ours:?}, not {wanted:?}");
        };
        let logs = [0.8f64, 0.2].map(f64::ln).to_vec();
        assert_eq!(tempered(logs.clone(), Problem::Classes, 1.0), logs);
        // Odds of 4 become odds of 2.
        close(tempered(logs, Problem::Classes, 2.0), &[2.0 / 3.0, 1.0 / 3.0]);
        let labels = [0.8f64, 0.5, 0.2, 0.5].map(f64::ln).to_vec();
        close(tempered(labels, Problem::MultiLabel, 2.0), &[2.0 / 3.0, 0.5, 1.0 / 3.0, 0.5]);
    }

    #[test]
    fn means_are_of_probabilities() {
        let logs = |probs: [f64; 2]| probs.map(f64::ln).to_vec();
        assert_eq!(mean(&[logs([0.25, 0.75])], Problem::Classes), logs([0.25, 0.75]));
        let windows = [logs([0.2, 0.8]), logs([0.6, 0.4]), logs([1.0, 0.0])];
        for (mean, wanted) in mean(&windows, Problem::Classes).iter().zip([0.6, 0.4]) {
            assert!((mean.exp() - wanted).abs() < 1e-12, "{mean}");
        }
        assert_eq!(
            mean(&[logs([0.0, 1.0]), logs([0.0, 1.0])], Problem::Classes)[0],
            f64::NEG_INFINITY
        );
        // Beyond what a probability in f32 or f64 could hold.
        assert!((mean(&[vec![-800.0], vec![-800.0]], Problem::Classes)[0] + 800.0).abs() < 1e-9);
        assert_eq!(mean(&[vec![1.0], vec![4.0]], Problem::Regression), [2.5]);
    }
}
