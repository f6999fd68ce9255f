//! A learning rate that is cut where evaluations get no better, as torch's `ReduceLROnPlateau`.

use serde::{Deserialize, Serialize};

/// By how much more a score must be better: torch's default, relative.
const THRESHOLD: f64 = 1e-4;
/// A smaller cut is none: torch's default.
const EPSILON: f64 = 1e-8;

/// How the rate is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reduction {
    pub factor: f64,
    /// Evaluations without a better score that pass before a cut.
    pub patience: u64,
    pub min_lr: f64,
}

/// The rate as evaluations have left it, and what they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    lr: Option<f64>,
    best: Option<f64>,
    worse: u64,
}

impl Plateau {
    /// The rate to go on at; `lr` before any cut.
    pub fn rate(&self, lr: f64) -> f64 {
        self.lr.unwrap_or(lr)
    }

    /// Takes in a score, of which `more` may be better; `lr` is the rate before any cut.
    pub fn see(&mut self, score: f64, more: bool, lr: f64, reduction: &Reduction) {
        let better = self.best.is_none_or(|best| match more {
            true => score > best * (1.0 + THRESHOLD),
            false => score < best * (1.0 - THRESHOLD),
        });
        if better {
            (self.best, self.worse) = (Some(score), 0);
            return;
        }
        self.worse += 1;
        if self.worse > reduction.patience {
            self.worse = 0;
            let (now, cut) = (self.rate(lr), self.rate(lr) * reduction.factor);
            let cut = cut.max(reduction.min_lr);
            self.lr = Some(if now - cut > EPSILON { cut } else { now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_after_patience_and_not_below_the_least() {
        let reduction = Reduction { factor: 0.1, patience: 1, min_lr: 0.05 };
        let mut plateau = Plateau::default();
        let scores = [0.5, 0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6];
        let rates = scores.map(|score| {
            plateau.see(score, true, 1.0, &reduction);
            plateau.rate(1.0)
        });
        assert_eq!(rates, [1.0, 1.0, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]);
    }
}
