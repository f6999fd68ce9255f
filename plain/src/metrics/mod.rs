//! Plain numbers, no tensors: from counts to scores.

mod calibration;
mod confusion;
mod metric;
mod multilabel;
mod precision;
mod regression;
mod roc;
mod top;
mod wilson;

pub use calibration::{Bin, calibration_error, reliability};
pub use confusion::{ClassScore, Confusion};
pub use metric::Metric;
pub use multilabel::MultiLabel;
pub use precision::average_precision;
pub use regression::Regression;
pub use roc::{roc_auc, roc_auc_macro};
pub use top::top_k_accuracy;
pub use wilson::wilson;
