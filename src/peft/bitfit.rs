//! BitFit (Ben Zaken et al. 2022): of the pretrained weights only the biases train, LayerNorms' with them.

use super::Method;
use crate::nn::Peft;

/// The plan.
#[derive(Debug)]
pub struct BitFit;

impl Peft for BitFit {
    fn trains(&self, name: &str) -> bool {
        name.ends_with(".bias")
    }
}

impl Method for BitFit {}
