//! What tables show of a run.

use serde_json::Value;

/// A score that a table shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub title: &'static str,
    pub key: &'static str,
    /// It is at most 1, and shown in percent.
    pub is_share: bool,
}

const fn share(title: &'static str, key: &'static str) -> Score {
    Score { title, key, is_share: true }
}

/// Every score that a table may show, in order.
pub const SCORES: [Score; 6] = [
    share("accuracy", "accuracy"),
    share("micro-F1", "micro_f1"),
    share("macro-F1", "macro_f1"),
    Score { title: "MSE", key: "mse", is_share: false },
    share("Pearson", "pearson"),
    share("Spearman", "spearman"),
];

/// What is shown of runs on such a problem; of one class a text, micro-F1 is the accuracy.
pub fn shown(problem: &Value) -> Vec<Score> {
    let keys: &[&str] = match problem.as_str() {
        Some("multi_label_classification") => &["accuracy", "micro_f1", "macro_f1"],
        Some("regression") => &["mse", "pearson", "spearman"],
        _ => &["accuracy", "macro_f1"],
    };
    SCORES.into_iter().filter(|score| keys.contains(&score.key)).collect()
}

impl Score {
    /// A value of it: shares in percent, others to 4 digits.
    pub fn written(&self, value: f64) -> String {
        if self.is_share { format!("{:.2}", 100.0 * value) } else { format!("{value:.4}") }
    }

    /// The nearest value that such a score can have.
    pub fn within(&self, value: f64) -> f64 {
        let least = if ["pearson", "spearman"].contains(&self.key) { -1.0 } else { 0.0 };
        value.clamp(least, if self.is_share { 1.0 } else { f64::INFINITY })
    }

    /// The nearest value that a difference of two such scores can have.
    pub fn apart(&self, value: f64) -> f64 {
        let most = if self.is_share { 1.0 - self.within(-1.0) } else { f64::INFINITY };
        value.clamp(-most, most)
    }

    /// A difference, with a sign; no further than it can go.
    pub fn signed(&self, value: f64) -> String {
        let value = self.apart(value);
        if self.is_share { format!("{:+.2}", 100.0 * value) } else { format!("{value:+.4}") }
    }

    /// Mean and sample standard deviation; of one value that alone.
    pub fn spread(&self, values: &[f64]) -> String {
        match super::Spread::of(values) {
            None => String::new(),
            Some(spread) => match spread.sd {
                None => self.written(spread.mean),
                Some(sd) => format!("{} ± {}", self.written(spread.mean), self.written(sd)),
            },
        }
    }
}

/// 1234567 as 1,234,567.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let lead = digits.len() % 3;
    let groups = digits.as_bytes()[lead..].chunks(3).map(String::from_utf8_lossy);
    let head = (lead > 0).then(|| digits[..lead].into());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let (accuracy, mse) = (SCORES[0], SCORES[3]);
        assert_eq!(accuracy.spread(&[0.5]), "50.00");
        assert_eq!(accuracy.spread(&[0.5, 0.6, 0.7]), "60.00 ± 10.00");
        assert_eq!(mse.spread(&[5.0, 6.0, 7.0]), "6.0000 ± 1.0000");
        assert_eq!([-7.5, 0.25].map(|value| accuracy.signed(value)), ["-100.00", "+25.00"]);
        assert_eq!([-7.5, 0.25].map(|value| SCORES[4].signed(value)), ["-200.00", "+25.00"]);
        assert_eq!(mse.signed(7.5), "+7.5000");
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
