//! Plain numbers, no tensors: from counts to scores.

mod confusion;
mod metric;

pub use confusion::{ClassScore, Confusion};
pub use metric::Metric;
