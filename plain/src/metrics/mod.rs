//! Plain numbers, no tensors: from counts to scores.

mod confusion;

pub use confusion::{ClassScore, Confusion};
