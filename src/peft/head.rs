//! A frozen encoder under a trained head: the linear probe of feature extraction.

use super::Method;
use crate::nn::Peft;

/// No pretrained parameter trains; what starts at random does (`Scope::trained`).
#[derive(Debug)]
pub struct HeadOnly;

impl Peft for HeadOnly {
    fn trains(&self, _: &str) -> bool {
        false
    }
}

impl Method for HeadOnly {}
