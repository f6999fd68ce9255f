//! Linear, LayerNorm, Embedding, Dropout, activations: as in torch, built at a `Scope`.

use std::cell::OnceCell;
use std::rc::Rc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::batch::Batch;
use super::plan::{Branch, Delta, Table};
use super::scope::{Init, Scope};
use crate::native;

/// A weight in the numbers that are computed in, where those are others than its own. Copies of this are of one weight.
///
/// A weight that does not train is turned once and for all. One that trains has a copy in bf16 on the CPU, which has a
/// gradient of its own and which the optimizer writes as it steps: no step turns every weight and every gradient.
#[derive(Debug, Clone, Default)]
pub struct Turned {
    now: Rc<OnceCell<Tensor>>,
    /// Whether the optimizer knows of it.
    known: bool,
}

impl Turned {
    /// Of a parameter that the optimizer is given.
    pub fn known() -> Self {
        Self { known: true, ..Self::default() }
    }

    /// `weight`, always the same one, in numbers of `kind`, always the same one.
    pub fn of(&self, weight: &Tensor, kind: Kind) -> Tensor {
        let trains = weight.requires_grad();
        let ours = self.known && weight.device() == Device::Cpu && kind == Kind::BFloat16;
        if weight.kind() == kind || (trains && !ours) {
            return weight.shallow_clone();
        }
        let turn = || weight.detach().to_kind(kind).set_requires_grad(trains);
        self.now.get_or_init(turn).shallow_clone()
    }

    /// The copy of a weight that trains, if it was asked for.
    pub fn copy(&self) -> Option<&Tensor> {
        self.now.get().filter(|copy| copy.requires_grad())
    }

    /// Makes the copy that of `weight` again, which changed.
    pub fn renew(&self, weight: &Tensor) {
        if let Some(copy) = self.copy() {
            no_grad(|| copy.shallow_clone().copy_(weight));
        }
    }
}

/// `y = x Wᵀ + b`.
#[derive(Debug)]
pub struct Affine {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Tensor,
    turned: Turned,
}

impl Affine {
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, turned: Turned::default() }
    }

    /// Weights not in the checkpoint are normal with deviation `std`, biases zero.
    fn at(scope: &Scope, fan_in: i64, fan_out: i64, std: f64) -> Self {
        let weight = scope.parameter("weight", &[fan_out, fan_in], Init::Normal(std));
        let bias = scope.parameter("bias", &[fan_out], Init::Zeros);
        Self { weight, bias, turned: scope.turned("weight") }
    }

    /// Features that go in, features that come out.
    pub fn fans(&self) -> (i64, i64) {
        let size = self.weight.size();
        (size[1], size[0])
    }

    pub fn forward(&self, xs: &Tensor) -> Tensor {
        native::linear(xs, &self.turned.of(&self.weight, xs.kind()), Some(&self.bias))
    }

    /// `x Wᵀ`.
    pub fn product(&self, xs: &Tensor) -> Tensor {
        native::linear(xs, &self.turned.of(&self.weight, xs.kind()), None)
    }

    /// Overwrites the weights where they lie, before they are computed with.
    pub fn set(&mut self, to: &Self) {
        no_grad(|| {
            self.weight.copy_(&to.weight);
            self.bias.copy_(&to.bias);
        });
    }
}

/// A linear layer, or what the plan makes of it.
#[derive(Debug)]
pub struct Linear {
    own: Affine,
    delta: Option<Box<dyn Delta>>,
}

impl Linear {
    /// Weights not in the checkpoint are normal with deviation `std`, biases zero.
    pub fn new(scope: &Scope, fan_in: i64, fan_out: i64, std: f64) -> Self {
        let mut own = Affine::at(scope, fan_in, fan_out, std);
        Self { delta: scope.delta(&mut own), own }
    }

    /// Of its weights.
    pub fn kind(&self) -> Kind {
        self.own.weight.kind()
    }

    /// `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, xs: &Tensor, train: bool) -> Tensor {
        match &self.delta {
            Some(delta) => delta.forward(xs, &self.own, train).to_kind(xs.kind()),
            None => self.own.forward(xs),
        }
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn new(scope: &Scope, size: i64, eps: f64) -> Self {
        let weight = scope.parameter("weight", &[size], Init::Ones);
        let bias = scope.parameter("bias", &[size], Init::Zeros);
        Self { weight, bias, eps }
    }

    pub fn forward(&self, xs: &Tensor) -> Tensor {
        // On the CPU weights may be longer than what they weigh.
        let kind = if xs.device() == Device::Cpu { self.weight.kind() } else { xs.kind() };
        let [weight, bias] = [&self.weight, &self.bias].map(|own| own.to_kind(kind));
        xs.layer_norm(self.weight.size(), Some(&weight), Some(&bias), self.eps, false)
    }
}

/// The end of a sublayer: dropout, the residual connection and its LayerNorm, and what the plan adds to them.
#[derive(Debug)]
pub struct AddNorm {
    norm: LayerNorm,
    /// Of the sublayer's output.
    dropout: Dropout,
    branch: Option<Box<dyn Branch>>,
}

impl AddNorm {
    pub fn new(scope: &Scope, hidden: i64, eps: f64, dropout: Dropout) -> Self {
        let norm = LayerNorm::new(scope, hidden, eps);
        Self { norm, dropout, branch: scope.branch(hidden) }
    }

    /// A sublayer's output `ys` and its input `xs`, both `[tokens, hidden]`, as one.
    pub fn forward(&self, ys: Tensor, xs: &Tensor, train: bool) -> Tensor {
        let LayerNorm { weight, bias, eps } = &self.norm;
        if self.branch.is_none() && native::takes(xs) && weight.kind() == Kind::Float {
            let p = if train { self.dropout.0 } else { 0.0 };
            return native::add_norm([&ys, xs], [weight, bias], *eps, p);
        }
        let ys = self.dropout.forward(ys, train);
        let branch = self.branch.as_ref();
        let branch = branch.map(|b| b.forward(&ys, xs, &self.norm, train).to_kind(ys.kind()));
        let sum = ys + xs;
        self.norm.forward(&match branch {
            Some(branch) => sum + branch,
            None => sum,
        })
    }
}

/// Rows of a table by id, or what the plan makes of them.
#[derive(Debug)]
pub struct Embedding {
    /// `[count, size]`
    pub weight: Tensor,
    table: Option<Box<dyn Table>>,
    turned: Turned,
}

impl Embedding {
    pub fn new(scope: &Scope, count: i64, size: i64, std: f64) -> Self {
        let mut weight = scope.parameter("weight", &[count, size], Init::Normal(std));
        Self { table: scope.table(&mut weight), weight, turned: scope.turned("weight") }
    }

    /// `[tokens]` to `[tokens, size]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        match &self.table {
            Some(table) => table.forward(ids, &self.weight),
            None => native::embedding(&self.weight, ids),
        }
    }

    /// All rows `[count, size]`, for a decoder tied to them that computes in such numbers.
    pub fn rows(&self, kind: Kind) -> Tensor {
        let own = || self.turned.of(&self.weight, kind);
        self.table.as_ref().map_or_else(own, |table| table.rows(&self.weight))
    }

    /// The same batch, with the virtual tokens of the plan before each sequence if it has any.
    pub fn widened(&self, batch: &Batch) -> Option<Batch> {
        let tokens = self.table.as_ref().map_or(0, |table| table.virtual_tokens());
        (tokens > 0).then(|| batch.behind(tokens, self.weight.size()[0]))
    }

    /// The words of a batch `[tokens, size]`; in training with its noise, if it has any.
    pub fn words(&self, batch: &Batch, train: bool) -> Tensor {
        let words = self.forward(&batch.ids);
        if train && batch.noise > 0.0 { batch.with_noise(words) } else { words }
    }
}

/// Zeroes a share of what passes while training, and scales up the rest.
#[derive(Debug, Clone, Copy)]
pub struct Dropout(pub f64);

impl Dropout {
    pub fn forward(self, xs: Tensor, train: bool) -> Tensor {
        match train && self.0 > 0.0 {
            true if native::takes(&xs) => native::dropout(&xs, self.0),
            true => xs.dropout(self.0, true),
            false => xs,
        }
    }
}

/// The non-linearities of `config.json`, under its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Activation {
    Gelu,
    #[serde(alias = "gelu_fast", alias = "gelu_pytorch_tanh")]
    GeluNew,
    Relu,
    #[serde(alias = "swish")]
    Silu,
    Tanh,
}

impl Activation {
    pub fn forward(self, xs: &Tensor) -> Tensor {
        match self {
            Activation::Gelu => xs.gelu("none"),
            Activation::GeluNew => xs.gelu("tanh"),
            Activation::Relu => xs.relu(),
            Activation::Silu => xs.silu(),
            Activation::Tanh => xs.tanh(),
        }
    }
}
