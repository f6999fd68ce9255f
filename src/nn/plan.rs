//! What a method of fine-tuning may answer to the layers that ask while they are built.

use std::fmt::Debug;

use tch::Tensor;

use super::layers::{Affine, LayerNorm};
use super::scope::Scope;

/// A way to fine-tune: which pretrained parameters train, and what is added to the layers that ask.
pub trait Peft: Debug {
    /// Whether the parameter of this full name trains.
    fn trains(&self, name: &str) -> bool;

    /// What takes the place of the linear layer `own` at `at`.
    fn delta(&self, _at: &Scope, _own: &Affine) -> Option<Box<dyn Delta>> {
        None
    }

    /// What goes beside the residual connection that ends at `at`, the place of its LayerNorm.
    fn branch(&self, _at: &Scope, _hidden: i64) -> Option<Box<dyn Branch>> {
        None
    }

    /// What the table of embeddings `own` `[count, size]` at `at` becomes.
    fn table(&self, _at: &Scope, _own: &Tensor) -> Option<Box<dyn Table>> {
        None
    }

    /// What every token attends to in the layer whose attention lies at `at`, beside its sequence.
    fn prefix(&self, _at: &Scope, _hidden: i64) -> Option<Box<dyn Prefix>> {
        None
    }
}

/// What a method adds at the end of a sublayer, before its LayerNorm.
pub trait Branch: Debug {
    /// What is added `[tokens, hidden]` to a sublayer's output `ys` and its input `xs`.
    fn forward(&self, ys: &Tensor, xs: &Tensor, norm: &LayerNorm, train: bool) -> Tensor;
}

/// What a method makes of one linear layer.
pub trait Delta: Debug {
    /// `[tokens, in]` to `[tokens, out]`, with the layer's own weights and what was added.
    fn forward(&self, xs: &Tensor, own: &Affine, train: bool) -> Tensor;

    /// The weights of one plain layer that gives the same where nothing is dropped.
    fn merged(&self, own: &Affine) -> Affine;
}

/// The plan where everything trains and nothing is added: full fine-tuning, and every new head.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Peft for Everything {
    fn trains(&self, _: &str) -> bool {
        true
    }
}

/// The plan of a model that is asked and not trained.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Peft for Nothing {
    fn trains(&self, _: &str) -> bool {
        false
    }
}

/// What a method makes of a table of embeddings.
pub trait Table: Debug {
    /// `[tokens]` to `[tokens, size]`, with the table's own rows and what was added.
    fn forward(&self, ids: &Tensor, own: &Tensor) -> Tensor;

    /// All rows `[count, size]`, as a decoder tied to the table has them.
    fn rows(&self, own: &Tensor) -> Tensor {
        own.shallow_clone()
    }

    /// The rows with what was added taken in, where that is all there is to it: then nothing stands beside them.
    fn merged(&self, _own: &Tensor) -> Option<Tensor> {
        None
    }

    /// How many tokens stand before every text that are in none: their ids begin where the table's own end.
    fn virtual_tokens(&self) -> i64 {
        0
    }
}

/// What every token of a layer attends to, beside its sequence.
pub trait Prefix: Debug {
    /// Keys and values, each `[prefix, hidden]`.
    fn forward(&self) -> [Tensor; 2];
}
