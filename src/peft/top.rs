//! The top layers train, what lies below stays as it is (Lee et al. 2019, "What Would Elsa Do?").

use super::Method;
use crate::nn::Peft;

/// The plan: embeddings and the layers below `first` are frozen.
#[derive(Debug)]
pub struct TopLayers {
    pub first: usize,
}

impl Peft for TopLayers {
    fn trains(&self, name: &str) -> bool {
        let layer = name.split('.').find_map(|part| part.parse().ok());
        layer.map_or(!name.contains("embeddings."), |layer: usize| layer >= self.first)
    }
}

impl Method for TopLayers {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_below_the_first_are_frozen() {
        let trains = |name| TopLayers { first: 10 }.trains(name);
        assert!(trains("bert.encoder.layer.10.output.dense.bias"));
        assert!(!trains("bert.encoder.layer.9.output.dense.bias"));
        assert!(!trains("bert.embeddings.LayerNorm.bias"));
        assert!(trains("bert.pooler.dense.weight") && trains("lm_head.dense.weight"));
    }
}
