//! Which hidden states become a vector, and how.

use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tch::{Device, Kind, Tensor};

use super::{Encoder, Sizes};
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
    fn check(self, layers: i64) -> Result<()> {
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

impl Pool {
    /// As `--pool` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
            Self::None => "none",
        }
    }
}

/// What vectors are made of, as flags.
#[derive(Debug, Clone, Args)]
pub struct FormArgs {
    /// Layer whose hidden states to take: last, all, or a number (0 = the embeddings)
    #[arg(long, default_value = "last")]
    pub layer: Layers,

    /// How the vectors of a text's tokens become one [default: mean]
    #[arg(long, value_enum)]
    pub pool: Option<Pool>,

    /// Keep the first DIM numbers of every vector
    #[arg(long, value_name = "DIM", value_parser = crate::flags::count)]
    pub truncate: Option<u64>,

    /// Scale every vector to length 1; --normalize=false leaves it as it is
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub normalize: Option<bool>,
}

impl FormArgs {
    /// What is asked for; what is not, is as given here. To scale them is not said of vectors of tokens.
    pub fn form(&self, pool: Option<Pool>, normalize: bool) -> Form {
        let &Self { layer, truncate, .. } = self;
        let pool = self.pool.or(pool).unwrap_or(Pool::Mean);
        let normalize = self.normalize.unwrap_or(normalize && pool != Pool::None);
        Form { layer, pool, truncate, normalize }
    }
}

/// What a vector is made of.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    pub layer: Layers,
    pub pool: Pool,
    /// How many of its numbers are kept, the first ones; all where it is not said.
    pub truncate: Option<u64>,
    /// Whether it is then scaled to length 1.
    pub normalize: bool,
}

impl Form {
    /// Whether a sequence has one vector, not one for each token.
    pub fn is_pooled(&self) -> bool {
        self.pool != Pool::None
    }

    /// The shape of one vector: `[hidden]`, or `[layers + 1, hidden]`. Fails if a model of these sizes has no such layer,
    /// or fewer numbers than are to be kept.
    pub fn shape(&self, sizes: &Sizes) -> Result<Vec<usize>> {
        self.layer.check(sizes.layers)?;
        let hidden = sizes.hidden as u64;
        let kept = self.truncate.unwrap_or(hidden);
        if kept > hidden {
            bail!(usage(format!("--truncate {kept}: the model's vectors have {hidden} numbers")));
        }
        let layers = (self.layer == Layers::All).then_some(sizes.layers as usize + 1);
        Ok(layers.into_iter().chain([kept as usize]).collect())
    }

    /// The vectors of a batch's sequences in f32 on the CPU, `[sequences, …]`, or unpooled `[tokens, …]`.
    pub fn vectors(&self, encoder: &dyn Encoder, batch: &Batch) -> Tensor {
        let states = self.layer.take(encoder, batch);
        let vectors = match self.pool {
            Pool::None => states,
            pool => Tensor::stack(&pool.pool(&states, batch), 0),
        };
        let kept = match self.truncate {
            None => vectors,
            Some(kept) => vectors.narrow(-1, 0, kept as i64),
        };
        let scaled = if self.normalize { unit(&kept) } else { kept };
        scaled.to_device(Device::Cpu)
    }
}

/// Vectors `[…, numbers]`, each at length 1, but for one of zeros.
fn unit(vectors: &Tensor) -> Tensor {
    vectors / vectors.square().sum_dim_intlist(-1i64, true, None).sqrt().clamp_min(1e-12)
}
