//! Full fine-tuning: every weight trains, nothing is added.

pub use crate::nn::Everything as Full;
