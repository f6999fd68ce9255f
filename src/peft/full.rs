//! Full fine-tuning: every weight trains, nothing is added.

use super::Method;
pub use crate::nn::Everything as Full;

impl Method for Full {}
