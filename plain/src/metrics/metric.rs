//! Scores by name.

use clap::ValueEnum;
use serde::Serialize;

/// Scores to choose weights by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Metric {
    Accuracy,
    MacroF1,
    MicroF1,
    Mcc,
    Mse,
    Mae,
    R2,
    Pearson,
    Spearman,
    Loss,
}

impl Metric {
    /// Its key in scores, and whether more is better.
    pub fn key(self) -> (&'static str, bool) {
        match self {
            Metric::Accuracy => ("accuracy", true),
            Metric::MacroF1 => ("macro_f1", true),
            Metric::MicroF1 => ("micro_f1", true),
            Metric::Mcc => ("mcc", true),
            Metric::Mse => ("mse", false),
            Metric::Mae => ("mae", false),
            Metric::R2 => ("r2", true),
            Metric::Pearson => ("pearson", true),
            Metric::Spearman => ("spearman", true),
            Metric::Loss => ("loss", false),
        }
    }
}
