//! Whether a difference may be chance, and how far a mean of few numbers may be off.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// McNemar's test, exact: of texts that one of two classifiers alone has right, how likely it is that they are divided as
/// unevenly, or more, if each is as likely one's as the other's (two-sided binomial test; Dietterich 1998, section 3.1, has
/// the approximation). 1 without such texts.
pub fn mcnemar(only_a: u64, only_b: u64) -> f64 {
    let (fewer, all) = (only_a.min(only_b), only_a + only_b);
    match Binomial::new(0.5, all) {
        // Where the two tails meet, all there is lies in them.
        Ok(even) if 2 * fewer + 1 < all => (2.0 * even.cdf(fewer)).min(1.0),
        _ => 1.0,
    }
}

/// The 0.975 quantile of the normal distribution.
pub const Z975: f64 = 1.959963984540054;

/// The 0.975 quantile of Student's t (1908).
pub fn t975(degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975))
}

/// Mean, standard deviation (of a sample) and Student's 95 % interval of the mean. The last two are none of fewer than two
/// numbers.
pub fn mean_interval(numbers: &[f64]) -> (f64, Option<f64>, Option<(f64, f64)>) {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let square = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>();
    let sd = (numbers.len() > 1).then(|| (square / (n - 1.0)).sqrt());
    let half = sd.map(|sd| t975(n - 1.0) * sd / n.sqrt());
    (mean, sd, half.map(|half| (mean - half, mean + half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Of 2^5 ways to divide five, six are as uneven as 4 to 1 on that side.
        assert!((mcnemar(4, 1) - 2.0 * 6.0 / 32.0).abs() < 1e-12);
        assert_eq!(mcnemar(1, 4), mcnemar(4, 1));
        assert_eq!((mcnemar(0, 0), mcnemar(3, 3)), (1.0, 1.0));
        assert!((mcnemar(1, 0) - 1.0).abs() < 1e-12);
        assert!((mcnemar(0, 60) / 0.5f64.powi(59) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_mean_of_few_is_far_off() {
        // t of two degrees of freedom: 0.95 sqrt(2 / (1 - 0.95^2)).
        let (mean, sd, interval) = mean_interval(&[1.0, 2.0, 3.0]);
        let half = 0.95 * (2.0 / (1.0 - 0.95f64 * 0.95)).sqrt() / 3f64.sqrt();
        assert_eq!((mean, sd), (2.0, Some(1.0)));
        let (low, high) = interval.unwrap();
        assert!((low - 2.0 + half).abs() < 1e-9 && (high - 2.0 - half).abs() < 1e-9, "{low}");
        assert_eq!(mean_interval(&[2.5]), (2.5, None, None));
        assert_eq!(mean_interval(&[2.0, 2.0]).2, Some((2.0, 2.0)));
    }
}
