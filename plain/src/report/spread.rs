//! Values over seeds.

use crate::metrics::t975;

/// Of values: how many, and how far apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub n: usize,
    pub mean: f64,
    /// The sample standard deviation, from two values on.
    pub sd: Option<f64>,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Nothing of no values; those that are not numbers are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let values = &values[..];
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let sd = (n > 1).then(|| (squares / (n as f64 - 1.0)).sqrt());
        let (min, max) = ends(values)?;
        Some(Self { n, mean, sd, min, max })
    }

    /// Where the mean over all seeds lies, in 95 of 100 experiments: Student's t (1908). From two values on.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let half = t975(self.n as f64 - 1.0) * self.sd? / (self.n as f64).sqrt();
        Some((self.mean - half, self.mean + half))
    }
}

/// The least and the largest of the values.
pub fn ends(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().reduce(f64::min)?;
    Some((least, values.iter().copied().reduce(f64::max)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_scipy() {
        // scipy.stats.t.ppf(0.975, df), SciPy 1.17.
        for (degrees, wanted) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (2.5, 3.5746548420036817),
            (30.0, 2.042272456301238),
        ] {
            assert!((t975(degrees) - wanted).abs() < 1e-6, "{degrees}: {}", t975(degrees));
        }
    }

    #[test]
    fn by_hand() {
        assert_eq!(Spread::of(&[]), None);
        let one = Spread::of(&[2.0]).unwrap();
        assert_eq!((one.sd, one.interval()), (None, None));
        let three = Spread::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((three.n, three.mean, three.min, three.max), (3, 3.0, 1.0, 6.0));
        assert!((three.sd.unwrap() - 7f64.sqrt()).abs() < 1e-12);
        let (low, high) = three.interval().unwrap();
        let half = 4.302652729749462 * (7.0f64 / 3.0).sqrt();
        assert!((low - (3.0 - half)).abs() < 1e-5 && (high - (3.0 + half)).abs() < 1e-5);
    }
}
