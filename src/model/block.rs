//! The transformer layer that BERT, RoBERTa and DistilBERT share (post-LayerNorm; Devlin et al. 2019, section 3).

use std::rc::Rc;

use tch::Tensor;

use crate::native;
use crate::nn::{Activation, AddNorm, Attention, Batch, Chosen, Dropout, Linear, Scope};

/// What an architecture calls the parts of a layer.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
}

/// The numbers of a layer.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    pub hidden: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub activation: Activation,
    pub dropout: f64,
    /// After the projection of what was attended to.
    pub projection_dropout: f64,
    /// On the attention weights.
    pub attention_dropout: f64,
    pub eps: f64,
    pub init_std: f64,
}

/// Self-attention, then a feed-forward network, each with its residual and LayerNorm.
#[derive(Debug)]
pub struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    attention: Attention,
    attention_output: Linear,
    attention_norm: AddNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: AddNorm,
    activation: Activation,
}

impl Block {
    pub fn new(scope: &Scope, names: &BlockNames, config: BlockConfig) -> Rc<Self> {
        let BlockConfig { hidden, intermediate, eps, init_std, .. } = config;
        let linear = |name, from, to| Linear::new(&scope.at(name), from, to, init_std);
        let norm = |name, p| AddNorm::new(&scope.at(name), hidden, eps, Dropout(p));
        Rc::new(Self {
            query: linear(names.query, hidden, hidden),
            key: linear(names.key, hidden, hidden),
            value: linear(names.value, hidden, hidden),
            attention: Attention::new(
                &scope.at("attention"),
                hidden,
                config.heads,
                Dropout(config.attention_dropout),
            ),
            attention_output: linear(names.attention_output, hidden, hidden),
            attention_norm: norm(names.attention_norm, config.projection_dropout),
            intermediate: linear(names.intermediate, hidden, intermediate),
            output: linear(names.output, intermediate, hidden),
            output_norm: norm(names.output_norm, config.dropout),
            activation: config.activation,
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    pub fn forward(&self, xs: &Tensor, batch: &Batch, train: bool) -> Tensor {
        let xs = &batch.cast(xs);
        let [k, v] = [&self.key, &self.value].map(|linear| linear.forward(xs, train));
        let q = self.query.forward(xs, train);
        self.after(self.attention.forward([&q, &k, &v], batch, train), xs, train)
    }

    /// The same in training, keeping `xs` alone: the rest is computed again on the way back.
    pub fn recomputed(self: &Rc<Self>, xs: &Tensor, batch: &Batch) -> Tensor {
        let (block, batch) = (Rc::clone(self), batch.shallow_clone());
        native::recomputed(xs, move |xs| block.forward(xs, &batch, true))
    }

    /// The same of some tokens alone `[chosen, hidden]`: all that is asked of the last layer. It computes no others where
    /// it can, which is exact.
    pub fn forward_at(&self, xs: &Tensor, chosen: &Chosen, batch: &Batch, train: bool) -> Tensor {
        let xs = &batch.cast(xs);
        if !self.attention.chooses(xs) {
            return chosen.of(&self.forward(xs, batch, train));
        }
        let [k, v] = [&self.key, &self.value].map(|linear| linear.forward(xs, train));
        let xs = chosen.of(xs);
        let q = self.query.forward(&xs, train);
        self.after(self.attention.of([&q, &k, &v], chosen, batch, train), &xs, train)
    }

    /// What follows attention, token by token.
    fn after(&self, attended: Tensor, xs: &Tensor, train: bool) -> Tensor {
        let attended = self.attention_output.forward(&attended, train);
        let xs = self.attention_norm.forward(attended, xs, train);
        let inner = self.intermediate.forward(&xs, train);
        let inner = self.activation.forward(&inner);
        let ys = self.output.forward(&inner, train);
        self.output_norm.forward(ys, &xs, train)
    }
}
