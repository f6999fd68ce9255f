//! Which hidden states become a vector, and how.

use std::str::FromStr;

use anyhow::{Result, bail};
use clap::ValueEnum;
use tch::{Kind, Tensor};

use super::Encoder;
use crate::flags::usage;
use crate::nn::Batch;

/// Layers to take hidden states of; 0 is the embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    Last,
    All,
    One(usize),
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Last),
            "all" => Ok(Self::All),
            n => n.parse().map(Self::One).map_err(|_| "last, all or a number is wanted".into()),
        }
    }
}

impl Layers {
    /// Hidden states `[tokens, hidden]`, or `[tokens, layers + 1, hidden]` of all layers.
    pub fn take(self, encoder: &dyn Encoder, batch: &Batch) -> Tensor {
        let whole = |xs: Tensor| xs.to_kind(Kind::Float);
        match self {
            Self::Last => whole(encoder.forward(batch, false)),
            Self::All => {
                let all = encoder.hidden_states(batch).into_iter().map(whole);
                Tensor::stack(&all.collect::<Vec<_>>(), 1)
            }
            Self::One(layer) => whole(encoder.hidden_states(batch).swap_remove(layer)),
        }
    }

    /// Fails if a model of `layers` layers has no such layer.
    pub fn check(self, layers: i64) -> Result<()> {
        match self {
            Self::One(layer) if layer as i64 > layers => {
                bail!(usage(format!("--layer {layer}: the last layer is {layers}")))
            }
            _ => Ok(()),
        }
    }
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pool {
    /// Their mean, special tokens included
    Mean,
    /// The first token's
    Cls,
    /// The largest value in each dimension
    Max,
    /// They stay as they are
    None,
}

impl Pool {
    /// From `[tokens, …]` of a batch, one tensor a sequence: `[…]`, or `[length, …]` for `None`.
    pub fn pool(self, states: &Tensor, batch: &Batch) -> Vec<Tensor> {
        let sequences = states.split_with_sizes(&batch.lengths, 0);
        let one = |xs: Tensor| match self {
            Self::Mean => xs.mean_dim(0, false, None),
            Self::Cls => xs.select(0, 0),
            Self::Max => xs.amax(0, false),
            Self::None => xs,
        };
        sequences.into_iter().map(one).collect()
    }
}
