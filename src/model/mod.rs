//! Encoders of the BERT family: one file an architecture, heads once, over `dyn Encoder`.

mod bert;
mod block;
mod distilbert;
mod head;
mod pool;
mod roberta;

use std::fmt::Debug;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::Tensor;

pub use block::Block;
pub use head::{ClassNames, MaskedLm, MlmNames, SequenceClassifier, cross_entropy};
pub use pool::{Layers, Pool};

use crate::nn::{Batch, Scope};

/// Token ids to hidden states.
pub trait Encoder: Debug {
    /// The embeddings, normalised: `[tokens, hidden]`.
    fn embed(&self, batch: &Batch, train: bool) -> Tensor;

    /// The layers above them.
    fn blocks(&self) -> &[Block];

    /// The table of word embeddings `[vocab, hidden]`, for a decoder tied to it.
    fn word_embeddings(&self) -> &Tensor;

    /// The last layer's hidden states `[tokens, hidden]`.
    fn forward(&self, batch: &Batch, train: bool) -> Tensor {
        let embedded = self.embed(batch, train);
        self.blocks().iter().fold(embedded, |xs, block| block.forward(&xs, batch, train))
    }

    /// Hidden states of every layer, the embeddings first, each `[tokens, hidden]`; not for training.
    fn hidden_states(&self, batch: &Batch) -> Vec<Tensor> {
        let mut all = vec![self.embed(batch, false)];
        for block in self.blocks() {
            all.push(block.forward(&all[all.len() - 1], batch, false));
        }
        all
    }
}

/// What `config.json` says of an architecture.
pub trait Architecture: Debug {
    /// What the encoder's tensors are called before the dot, e.g. `bert`.
    fn prefix(&self) -> &'static str;

    /// Stem of transformers' class names, e.g. `Bert` in `BertForMaskedLM`.
    fn class(&self) -> &'static str;

    fn sizes(&self) -> Sizes;

    /// Builds the encoder at `scope`, which is the place of the prefix.
    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder>;

    fn mlm_names(&self) -> MlmNames;

    fn class_names(&self) -> ClassNames;
}

/// The numbers programs need of any architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub hidden: i64,
    pub layers: i64,
    pub heads: i64,
    pub vocab: i64,
    /// Longest sequence, special tokens included.
    pub max_length: i64,
    pub eps: f64,
    pub init_std: f64,
    /// Segments there are embeddings for; no limit where segments are not told apart.
    pub segments: i64,
    /// Whether the MLM decoder is the word embeddings.
    pub tied: bool,
}

/// The architecture of a `config.json`, by its `model_type`.
pub fn architecture(config: &Value) -> Result<Box<dyn Architecture>> {
    let kind = config["model_type"].as_str().context("`model_type` is missing")?;
    Ok(match kind {
        "bert" => Box::new(parse::<bert::Config>(config)?),
        "roberta" => Box::new(parse::<roberta::Config>(config)?),
        "distilbert" => Box::new(parse::<distilbert::Config>(config)?),
        _ => bail!("model_type {kind:?} is none of bert, roberta, distilbert"),
    })
}

/// Fails on numbers no model can be built from.
fn parse<C: DeserializeOwned + Architecture>(config: &Value) -> Result<C> {
    let parsed: C = serde_json::from_value(config.clone())?;
    let sizes = parsed.sizes();
    let Sizes { hidden, layers, heads, vocab, max_length, .. } = sizes;
    let positive = hidden > 0 && layers >= 0 && heads > 0 && vocab > 0 && max_length > 0;
    if !positive || hidden % heads != 0 {
        bail!("its sizes cannot be built: {sizes:?}");
    }
    let inner = ["intermediate_size", "hidden_dim"].map(|key| config[key].as_i64());
    if inner.iter().flatten().any(|&size| size <= 0) {
        bail!("its intermediate size must be above 0");
    }
    let position = config["position_embedding_type"].as_str().unwrap_or("absolute");
    if position != "absolute" {
        bail!("position_embedding_type {position:?}: only absolute positions are known");
    }
    Ok(parsed)
}
