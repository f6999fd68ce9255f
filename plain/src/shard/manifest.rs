//! Which texts a model has met, and at which stage: the hashes its shards name, kept beside its weights.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::ints::u64_at;
use super::open::Shard;

/// What a model met a text for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Pretraining,
    /// Fine-tuning.
    Training,
    /// Choosing among weights, by `--eval`.
    Validation,
}

const STAGES: [Stage; 3] = [Stage::Pretraining, Stage::Training, Stage::Validation];

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretraining => "pretraining",
            Self::Training => "training",
            Self::Validation => "validation",
        }
    }
}

/// Hashes of the texts met at each stage that is known, sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest(BTreeMap<Stage, Vec<u64>>);

impl Manifest {
    /// The file in a model's directory.
    pub const FILE: &str = "texts.safetensors";

    /// Adds the texts of a shard. False where the shard does not name them: then nothing is known of the stage.
    pub fn add(&mut self, stage: Stage, shard: &Shard) -> bool {
        match shard.texts() {
            Some(texts) => {
                let all = self.0.entry(stage).or_default();
                all.extend(texts);
                all.sort_unstable();
                all.dedup();
                true
            }
            None => {
                self.0.remove(&stage);
                false
            }
        }
    }

    /// How many of `texts` were met at each stage; nothing where that is not known.
    pub fn seen(&self, texts: &[u64]) -> Vec<(Stage, Option<usize>)> {
        let met =
            |all: &Vec<u64>| texts.iter().filter(|text| all.binary_search(text).is_ok()).count();
        STAGES.iter().map(|stage| (*stage, self.0.get(stage).map(met))).collect()
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes: Vec<(Stage, Vec<u8>)> = self
            .0
            .iter()
            .map(|(stage, all)| (*stage, all.iter().flat_map(|hash| hash.to_le_bytes()).collect()))
            .collect();
        let views: Result<Vec<(&str, TensorView)>> = bytes
            .iter()
            .map(|(stage, bytes)| {
                Ok((stage.name(), TensorView::new(Dtype::U64, vec![bytes.len() / 8], bytes)?))
            })
            .collect();
        let about = [("format".to_owned(), "tapt-texts".to_owned())].into();
        Ok(safetensors::serialize(views?, Some(about))?)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("not a list of texts")?;
        let mut stages = BTreeMap::new();
        for stage in STAGES {
            let Ok(tensor) = file.tensor(stage.name()) else { continue };
            let fine = tensor.dtype() == Dtype::U64 && tensor.shape().len() == 1;
            ensure!(fine, "tensor `{}` is not U64 of one dimension", stage.name());
            let data = tensor.data();
            let mut all: Vec<u64> = (0..data.len() / 8).map(|i| u64_at(data, i)).collect();
            all.sort_unstable();
            stages.insert(stage, all);
        }
        Ok(Self(stages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_is_counted_and_survives_the_file() {
        let mut met = Manifest::default();
        met.0.insert(Stage::Pretraining, vec![1, 5, u64::MAX]);
        met.0.insert(Stage::Validation, vec![]);
        let again = Manifest::from_bytes(&met.to_bytes().unwrap()).unwrap();
        assert_eq!(again, met);
        let counts: Vec<_> = again.seen(&[5, 7, u64::MAX]).into_iter().map(|(_, n)| n).collect();
        assert_eq!(counts, [Some(2), None, Some(0)]);
        assert!(Manifest::from_bytes(b"no").is_err());
    }
}
