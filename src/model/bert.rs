//! BERT (Devlin et al. 2019), tensor for tensor as transformers' `BertModel`.

use std::rc::Rc;

use serde::Deserialize;
use tch::Tensor;

use super::block::{Block, BlockConfig, BlockNames};
use super::{Architecture, ClassNames, Encoder, MlmNames, Sizes};
use crate::nn::{Activation, Batch, Dropout, Embedding, LayerNorm, Scope};

/// The keys of `config.json` that shape a BERT or a RoBERTa; defaults are transformers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: f64,
    pub attention_probs_dropout_prob: f64,
    pub classifier_dropout: Option<f64>,
    pub max_position_embeddings: i64,
    pub type_vocab_size: i64,
    pub initializer_range: f64,
    pub tie_word_embeddings: bool,
    pub layer_norm_eps: f64,
    pub pad_token_id: Option<i64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            tie_word_embeddings: true,
            layer_norm_eps: 1e-12,
            pad_token_id: None,
        }
    }
}

pub const BLOCK: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

impl Config {
    pub fn block(&self) -> BlockConfig {
        BlockConfig {
            hidden: self.hidden_size,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            activation: self.hidden_act,
            dropout: self.hidden_dropout_prob,
            projection_dropout: self.hidden_dropout_prob,
            attention_dropout: self.attention_probs_dropout_prob,
            eps: self.layer_norm_eps,
            init_std: self.initializer_range,
        }
    }

    pub fn head_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }
}

impl Architecture for Config {
    fn prefix(&self) -> &'static str {
        "bert"
    }

    fn class(&self) -> &'static str {
        "Bert"
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            vocab: self.vocab_size,
            max_length: self.max_position_embeddings,
            eps: self.layer_norm_eps,
            init_std: self.initializer_range,
            segments: self.type_vocab_size,
            tied: self.tie_word_embeddings,
        }
    }

    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder> {
        let blocks = (0..self.num_hidden_layers)
            .map(|i| Block::new(&scope.at(&format!("encoder.layer.{i}")), &BLOCK, self.block()));
        Box::new(Bert {
            embeddings: Embeddings::new(&scope.at("embeddings"), self),
            blocks: blocks.collect(),
        })
    }

    fn mlm_names(&self) -> MlmNames {
        MlmNames {
            dense: "cls.predictions.transform.dense",
            norm: "cls.predictions.transform.LayerNorm",
            bias: "cls.predictions",
            decoder: "cls.predictions.decoder",
            activation: self.hidden_act,
        }
    }

    fn class_names(&self) -> ClassNames {
        ClassNames {
            dense: "bert.pooler.dense",
            output: "classifier",
            activation: Activation::Tanh,
            dropout_before: 0.0,
            dropout: self.head_dropout(),
        }
    }
}

/// Word, position and segment embeddings, added and normalised.
#[derive(Debug)]
pub struct Embeddings {
    pub words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
}

impl Embeddings {
    pub fn new(scope: &Scope, config: &Config) -> Self {
        let (hidden, std) = (config.hidden_size, config.initializer_range);
        let table = |name, count| Embedding::new(&scope.at(name), count, hidden, std);
        Self {
            words: table("word_embeddings", config.vocab_size),
            positions: table("position_embeddings", config.max_position_embeddings),
            segments: table("token_type_embeddings", config.type_vocab_size),
            norm: LayerNorm::new(&scope.at("LayerNorm"), hidden, config.layer_norm_eps),
            dropout: Dropout(config.hidden_dropout_prob),
        }
    }

    /// Both index tensors are `[tokens]`.
    pub fn forward(
        &self,
        batch: &Batch,
        positions: &Tensor,
        segments: &Tensor,
        train: bool,
    ) -> Tensor {
        let sum = self.words.words(batch, train)
            + self.segments.forward(segments)
            + self.positions.forward(positions);
        self.dropout.forward(self.norm.forward(&sum), train)
    }
}

#[derive(Debug)]
struct Bert {
    embeddings: Embeddings,
    blocks: Vec<Rc<Block>>,
}

impl Encoder for Bert {
    fn embed(&self, batch: &Batch, train: bool) -> Tensor {
        self.embeddings.forward(batch, &batch.positions, &batch.segments, train)
    }

    fn blocks(&self) -> &[Rc<Block>] {
        &self.blocks
    }

    fn words(&self) -> &Embedding {
        &self.embeddings.words
    }
}
