//! The transformer layer that BERT, RoBERTa and DistilBERT share (post-LayerNorm; Devlin et al. 2019, section 3).

use tch::Tensor;

use crate::nn::{Activation, AddNorm, Batch, Dropout, Linear, Scope, attention};

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
    attention_output: Linear,
    attention_norm: AddNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: AddNorm,
    config: BlockConfig,
}

impl Block {
    pub fn new(scope: &Scope, names: &BlockNames, config: BlockConfig) -> Self {
        let BlockConfig { hidden, intermediate, eps, init_std, .. } = config;
        let linear = |name, from, to| Linear::new(&scope.at(name), from, to, init_std);
        let norm = |name| AddNorm::new(&scope.at(name), hidden, eps);
        Self {
            query: linear(names.query, hidden, hidden),
            key: linear(names.key, hidden, hidden),
            value: linear(names.value, hidden, hidden),
            attention_output: linear(names.attention_output, hidden, hidden),
            attention_norm: norm(names.attention_norm),
            intermediate: linear(names.intermediate, hidden, intermediate),
            output: linear(names.output, intermediate, hidden),
            output_norm: norm(names.output_norm),
            config,
        }
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    pub fn forward(&self, xs: &Tensor, batch: &Batch, train: bool) -> Tensor {
        let attended = self.attend(xs, batch, train);
        let attended = self.attention_output.forward(&attended, train);
        let attended = Dropout(self.config.projection_dropout).forward(attended, train);
        let xs = self.attention_norm.forward(attended, xs, train);
        let inner = self.intermediate.forward(&xs, train);
        let inner = self.config.activation.forward(&inner);
        let ys = self.output.forward(&inner, train);
        let ys = Dropout(self.config.dropout).forward(ys, train);
        self.output_norm.forward(ys, &xs, train)
    }

    fn attend(&self, xs: &Tensor, batch: &Batch, train: bool) -> Tensor {
        let [q, k, v] =
            [&self.query, &self.key, &self.value].map(|linear| linear.forward(xs, train));
        let dropout = Dropout(self.config.attention_dropout);
        attention([&q, &k, &v], batch, self.config.heads, dropout, train)
    }
}
