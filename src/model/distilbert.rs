//! DistilBERT (Sanh et al. 2019): BERT's layers under other names, no segments, no pooler.

use std::rc::Rc;

use serde::Deserialize;
use tch::Tensor;

use super::block::{Block, BlockConfig, BlockNames};
use super::{Architecture, ClassNames, Encoder, MlmNames, Sizes};
use crate::nn::{Activation, Batch, Dropout, Embedding, LayerNorm, Scope};

/// transformers has this one fixed.
const EPS: f64 = 1e-12;

/// The keys of `config.json`; defaults are transformers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    vocab_size: i64,
    max_position_embeddings: i64,
    n_layers: i64,
    n_heads: i64,
    dim: i64,
    hidden_dim: i64,
    dropout: f64,
    attention_dropout: f64,
    activation: Activation,
    initializer_range: f64,
    tie_word_embeddings: bool,
    seq_classif_dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            max_position_embeddings: 512,
            n_layers: 6,
            n_heads: 12,
            dim: 768,
            hidden_dim: 3072,
            dropout: 0.1,
            attention_dropout: 0.1,
            activation: Activation::Gelu,
            initializer_range: 0.02,
            tie_word_embeddings: true,
            seq_classif_dropout: 0.2,
        }
    }
}

const BLOCK: BlockNames = BlockNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
};

impl Config {
    fn block(&self) -> BlockConfig {
        BlockConfig {
            hidden: self.dim,
            heads: self.n_heads,
            intermediate: self.hidden_dim,
            activation: self.activation,
            dropout: self.dropout,
            // As in transformers: only the feed-forward network is followed by dropout.
            projection_dropout: 0.0,
            attention_dropout: self.attention_dropout,
            eps: EPS,
            init_std: self.initializer_range,
        }
    }
}

impl Architecture for Config {
    fn prefix(&self) -> &'static str {
        "distilbert"
    }

    fn class(&self) -> &'static str {
        "DistilBert"
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.dim,
            layers: self.n_layers,
            heads: self.n_heads,
            vocab: self.vocab_size,
            max_length: self.max_position_embeddings,
            eps: EPS,
            init_std: self.initializer_range,
            segments: i64::MAX,
            tied: self.tie_word_embeddings,
        }
    }

    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder> {
        let table = |name, count| {
            Embedding::new(
                &scope.at("embeddings").at(name),
                count,
                self.dim,
                self.initializer_range,
            )
        };
        let blocks = (0..self.n_layers).map(|i| {
            Block::new(&scope.at(&format!("transformer.layer.{i}")), &BLOCK, self.block())
        });
        Box::new(DistilBert {
            words: table("word_embeddings", self.vocab_size),
            positions: table("position_embeddings", self.max_position_embeddings),
            norm: LayerNorm::new(&scope.at("embeddings.LayerNorm"), self.dim, EPS),
            dropout: Dropout(self.dropout),
            blocks: blocks.collect(),
        })
    }

    fn mlm_names(&self) -> MlmNames {
        MlmNames {
            dense: "vocab_transform",
            norm: "vocab_layer_norm",
            bias: "vocab_projector",
            decoder: "vocab_projector",
            activation: self.activation,
        }
    }

    fn class_names(&self) -> ClassNames {
        ClassNames {
            dense: "pre_classifier",
            output: "classifier",
            activation: Activation::Relu,
            dropout_before: 0.0,
            dropout: self.seq_classif_dropout,
        }
    }
}

#[derive(Debug)]
struct DistilBert {
    words: Embedding,
    positions: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
    blocks: Vec<Rc<Block>>,
}

impl Encoder for DistilBert {
    fn embed(&self, batch: &Batch, train: bool) -> Tensor {
        let sum = self.words.words(batch, train) + self.positions.forward(&batch.positions);
        self.dropout.forward(self.norm.forward(&sum), train)
    }

    fn blocks(&self) -> &[Rc<Block>] {
        &self.blocks
    }

    fn words(&self) -> &Embedding {
        &self.words
    }
}
