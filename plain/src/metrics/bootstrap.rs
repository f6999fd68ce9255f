//! How sure a score is that is no share: the bootstrap.

use std::array;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};
use rayon::prelude::*;

use crate::random::generator;

/// Samples that are drawn.
const SAMPLES: u64 = 2000;

/// 95 % intervals of K scores of texts of several kinds, `counts` of each, by the percentile bootstrap (Efron and Tibshirani
/// 1993, section 13.3): as many texts as there are, drawn with replacement, 2,000 times. How many of each kind are among
/// them is multinomial, so that no text is drawn by itself. The same counts give the same intervals.
pub fn bootstrap<const K: usize>(
    counts: &[u64],
    scores: impl Fn(&[u64]) -> [f64; K] + Sync,
) -> [(f64, f64); K] {
    let drawn = |sample| scores(&resampled(counts, &mut generator("bootstrap", 0, sample)));
    let all: Vec<[f64; K]> = (0..SAMPLES).into_par_iter().map(drawn).collect();
    array::from_fn(|k| {
        let mut own: Vec<f64> = all.iter().map(|scores| scores[k]).collect();
        own.sort_by(f64::total_cmp);
        (quantile(&own, 0.025), quantile(&own, 0.975))
    })
}

/// Counts of as many texts, drawn with replacement: each kind's share of what the kinds before it left over is binomial.
fn resampled(counts: &[u64], rng: &mut ChaCha8Rng) -> Vec<u64> {
    let mut left: u64 = counts.iter().sum();
    let mut wanted = left;
    let draw = |&count: &u64| {
        let share = count as f64 / left.max(1) as f64;
        let drawn = Binomial::new(wanted, share).map_or(0, |own| own.sample(rng));
        left -= count;
        wanted -= drawn;
        drawn
    };
    counts.iter().map(draw).collect()
}

/// Between the two nearest of sorted numbers, in proportion: `linear` of NumPy's `quantile`. 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let number = |at: f64| sorted.get(at as usize).copied().unwrap_or(0.0);
    let (low, high) = (number(at.floor()), number(at.ceil()));
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use statrs::distribution::{Binomial as Exact, DiscreteCDF};

    use super::*;

    /// Of a share the distribution of samples is known: its quantiles, give or take what 2,000 samples tell of them.
    #[test]
    fn intervals_of_a_share_are_binomial_quantiles() {
        for (right, all) in [(80, 100), (50, 100), (990, 1000), (60_000, 100_000)] {
            let share = |counts: &[u64]| [counts[0] as f64 / all as f64];
            let [(low, high)] = bootstrap(&[right, all - right], share);
            let exact = Exact::new(right as f64 / all as f64, all).unwrap();
            let below = |texts: f64| if texts < 0.0 { 0.0 } else { exact.cdf(texts as u64) };
            for (ours, wanted) in [(low * all as f64, 0.025), (high * all as f64, 0.975)] {
                let (from, to) = (below(ours.ceil() - 1.0), below(ours.floor() + 1.0));
                assert!(from - 0.012 < wanted && wanted < to + 0.012, "{right} of {all}: {ours}");
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let numbers = [1.0, 2.0, 4.0, 8.0];
        for (share, wanted) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&numbers, share) - wanted).abs() < 1e-12, "{share}");
        }
        assert_eq!((quantile(&[3.0], 0.975), quantile(&[], 0.5)), (3.0, 0.0));
    }

    #[test]
    fn nothing_and_certainty_have_intervals() {
        assert_eq!(bootstrap(&[], |counts| [counts.len() as f64]), [(0.0, 0.0)]);
        assert_eq!(bootstrap(&[0, 7, 0], |counts| [counts[1] as f64]), [(7.0, 7.0)]);
    }

    proptest! {
        #[test]
        fn samples_are_as_large_and_have_no_new_kinds(
            counts in prop::collection::vec(0..50u64, 0..20), seed: u64,
        ) {
            let drawn = resampled(&counts, &mut generator("test", seed, 0));
            prop_assert_eq!(drawn.iter().sum::<u64>(), counts.iter().sum::<u64>());
            prop_assert!(counts.iter().zip(&drawn).all(|(count, drawn)| *count > 0 || *drawn == 0));
        }
    }
}
