//! Whether a classifier is as often right as it says.

use serde::Serialize;
use serde_json::{Value, json};

use super::temperature::at_temperature;

/// Bins of the reliability diagram, as in Guo et al. 2017.
pub const BINS: usize = 15;

/// Predictions of about the same probability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bin {
    pub count: u64,
    /// Mean probability; 0 of none.
    pub said: f64,
    /// The share that is right; 0 of none.
    pub right: f64,
}

/// A reliability diagram that is being counted: sums in place of the means of its bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliability(Vec<Bin>);

impl Reliability {
    /// So many bins, at least one: `(k / bins, (k + 1) / bins]` for each k, the first with 0. As scikit-learn's
    /// `calibration_curve`, which leaves out empty bins.
    pub fn new(bins: usize) -> Self {
        Self(vec![Bin::default(); bins.max(1)])
    }

    /// Takes in a prediction: its probability, in 0 to 1, and whether it is right.
    pub fn add(&mut self, said: f64, right: bool) {
        let bins = self.0.len();
        let edge = |k: usize| k as f64 / bins as f64;
        // Multiplied and divided numbers may differ in the last bit.
        let near = ((said * bins as f64) as usize).min(bins - 1);
        let at = match near {
            near if near > 0 && said <= edge(near) => near - 1,
            near if near + 1 < bins && said > edge(near + 1) => near + 1,
            near => near,
        };
        let bin = &mut self.0[at];
        bin.count += 1;
        bin.said += said;
        bin.right += f64::from(u8::from(right));
    }

    /// The bins, from the least probable to the most.
    pub fn bins(&self) -> Vec<Bin> {
        let mean = |bin: &Bin| {
            let count = bin.count.max(1) as f64;
            Bin { count: bin.count, said: bin.said / count, right: bin.right / count }
        };
        self.0.iter().map(mean).collect()
    }

    /// Expected calibration error (Guo et al. 2017, section 2): how far the bins are from the diagonal, each weighed by its
    /// count. 0 without predictions.
    pub fn error(&self) -> f64 {
        let all: u64 = self.0.iter().map(|bin| bin.count).sum();
        self.0.iter().map(|bin| (bin.said - bin.right).abs()).sum::<f64>() / all.max(1) as f64
    }
}

/// Reliability of predictions as they are and, where it is given, at a temperature.
#[derive(Debug)]
pub struct Calibration {
    count: u64,
    reliability: Reliability,
    /// At another temperature: its diagram, and the sum of losses.
    scaled: Option<(f64, Reliability, f64)>,
}

impl Calibration {
    pub fn new(temperature: Option<f64>) -> Self {
        let scaled = temperature.map(|by| (by, Reliability::new(BINS), 0.0));
        Self { count: 0, reliability: Reliability::new(BINS), scaled }
    }

    /// Takes in a prediction: the logarithms of the probabilities of all that may be, the probability of what is said, and
    /// which of them that is and which is right.
    pub fn add(&mut self, logs: &[f64], prob: f32, (said, is): (usize, usize)) {
        self.count += 1;
        self.reliability.add(f64::from(prob), said == is);
        if let Some((temperature, reliability, loss)) = &mut self.scaled {
            let logs = at_temperature(logs, *temperature);
            reliability.add(logs[said].exp(), said == is);
            *loss -= logs[is];
        }
    }

    /// What a score line says of it.
    pub fn to_json(&self) -> Value {
        let diagram = |of: &Reliability| json!({"error": of.error(), "bins": of.bins()});
        let mut calibration = diagram(&self.reliability);
        if let Some((temperature, reliability, loss)) = &self.scaled {
            calibration["temperature"] = json!(temperature);
            calibration["scaled"] = diagram(reliability);
            calibration["scaled"]["loss"] = json!(loss / self.count.max(1) as f64);
        }
        calibration
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(said: &[(f64, bool)], bins: usize) -> Reliability {
        let mut all = Reliability::new(bins);
        said.iter().for_each(|(said, right)| all.add(*said, *right));
        all
    }

    #[test]
    fn by_hand() {
        let said =
            [(0.0, false), (0.25, true), (0.5, true), (0.75, false), (1.0, true), (0.875, true)];
        let all = counted(&said, 2);
        // 0, 0.25 and 0.5 lie in the first; 0.75, 0.875 and 1 in the second.
        assert_eq!(all.bins()[0], Bin { count: 3, said: 0.25, right: 2.0 / 3.0 });
        assert_eq!(all.bins()[1], Bin { count: 3, said: 0.875, right: 2.0 / 3.0 });
        let wanted = ((2.0 / 3.0 - 0.25) + (0.875 - 2.0 / 3.0)) / 2.0;
        assert!((all.error() - wanted).abs() < 1e-15);
    }

    #[test]
    fn bins_without_predictions_count_nothing() {
        assert_eq!(counted(&[], 10).error(), 0.0);
        let all = counted(&[(1.0, true)], 10);
        assert_eq!((all.bins()[9].count, all.error()), (1, 0.0));
        assert_eq!(counted(&[(f64::NAN, true)], 10).bins()[0].count, 1);
    }

    proptest! {
        /// Edges belong to the bin below them, also where they are no numbers of the machine.
        #[test]
        fn bins_end_with_their_edges(bins in 1..40usize, at in 0..=40usize, said in 0.0..=1.0f64) {
            for said in [said, (at.min(bins)) as f64 / bins as f64] {
                let edges = (1..bins).map(|k| k as f64 / bins as f64);
                let wanted = edges.filter(|edge| *edge < said).count();
                prop_assert_eq!(counted(&[(said, true)], bins).bins()[wanted].count, 1);
            }
        }
    }
}
