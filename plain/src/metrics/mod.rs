//! Plain numbers, no tensors: from counts to scores.

mod confusion;
mod metric;
mod multilabel;
mod regression;

pub use confusion::{ClassScore, Confusion};
pub use metric::Metric;
pub use multilabel::MultiLabel;
pub use regression::Regression;
