//! Plain numbers, no tensors: from counts to scores.

mod bootstrap;
mod calibration;
mod confusion;
mod f1;
mod metric;
mod multilabel;
mod precision;
mod probabilities;
mod regression;
mod rest;
mod roc;
mod significance;
mod temperature;
mod top;
mod wilson;

pub use bootstrap::bootstrap;
pub use calibration::{Bin, Reliability};
pub use confusion::{ClassScore, Confusion};
pub use f1::Hits;
pub use metric::Metric;
pub use multilabel::MultiLabel;
pub use precision::average_precision;
pub use probabilities::{KEPT, LabelProbabilities, Probabilities};
pub use regression::Regression;
pub use rest::{Ranking, one_against_rest, ranking};
pub use roc::roc_auc;
pub use significance::{Z975, mcnemar, mean_interval, t975};
pub use temperature::{at_temperature, temperature};
pub use top::is_among_top;
pub use wilson::wilson;
