//! RoBERTa (Liu et al. 2019): BERT but for its position ids, its segments (always 0) and its heads.

use std::rc::Rc;

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::bert::{self, BLOCK, Embeddings};
use super::block::Block;
use super::{Architecture, ClassNames, Encoder, MlmNames, Sizes};
use crate::nn::{Activation, Batch, Embedding, Scope};

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "bert::Config")]
pub struct Config(bert::Config);

impl TryFrom<bert::Config> for Config {
    type Error = String;

    fn try_from(config: bert::Config) -> Result<Self, String> {
        match config.pad_token_id {
            // The first position, pad + 1, would lie before the table.
            Some(pad) if pad < -1 => Err(format!("pad_token_id {pad} is below -1")),
            _ => Ok(Self(config)),
        }
    }
}

impl Config {
    fn pad(&self) -> i64 {
        self.0.pad_token_id.unwrap_or(1)
    }
}

impl Architecture for Config {
    fn prefix(&self) -> &'static str {
        "roberta"
    }

    fn class(&self) -> &'static str {
        "Roberta"
    }

    fn sizes(&self) -> Sizes {
        // Positions up to and with the padding id are never given to a token.
        let positions = self.0.max_position_embeddings;
        let max_length = positions.saturating_sub(self.pad()).saturating_sub(1);
        Sizes { max_length, segments: i64::MAX, ..self.0.sizes() }
    }

    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder> {
        let blocks = (0..self.0.num_hidden_layers)
            .map(|i| Block::new(&scope.at(&format!("encoder.layer.{i}")), &BLOCK, self.0.block()));
        Box::new(Roberta {
            embeddings: Embeddings::new(&scope.at("embeddings"), &self.0),
            blocks: blocks.collect(),
            pad: self.pad(),
        })
    }

    fn mlm_names(&self) -> MlmNames {
        MlmNames {
            dense: "lm_head.dense",
            norm: "lm_head.layer_norm",
            bias: "lm_head",
            decoder: "lm_head.decoder",
            activation: Activation::Gelu,
        }
    }

    fn class_names(&self) -> ClassNames {
        ClassNames {
            dense: "classifier.dense",
            output: "classifier.out_proj",
            activation: Activation::Tanh,
            dropout_before: self.0.head_dropout(),
            dropout: self.0.head_dropout(),
        }
    }
}

#[derive(Debug)]
struct Roberta {
    embeddings: Embeddings,
    blocks: Vec<Rc<Block>>,
    pad: i64,
}

impl Roberta {
    /// `pad + 1 + n` for the n-th token that is not the padding token, `pad` for one that is (random
    /// replacement may draw it), as transformers' `create_position_ids_from_input_ids`.
    fn positions(&self, batch: &Batch) -> Tensor {
        let real = batch.ids.not_equal(self.pad).to_kind(Kind::Int64);
        let count = real.cumsum(0, Kind::Int64);
        let lengths = Tensor::from_slice(&batch.lengths).to_device(batch.ids.device());
        let before =
            batch.first(&(&count - &real)).repeat_interleave_self_tensor(&lengths, 0, None);
        (count - before) * real + self.pad
    }
}

impl Encoder for Roberta {
    fn embed(&self, batch: &Batch, train: bool) -> Tensor {
        let segments = batch.segments.zeros_like();
        self.embeddings.forward(batch, &self.positions(batch), &segments, train)
    }

    fn blocks(&self) -> &[Rc<Block>] {
        &self.blocks
    }

    fn words(&self) -> &Embedding {
        &self.embeddings.words
    }
}
