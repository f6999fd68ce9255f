//! DoRA (Liu et al. 2024, section 4.3): the rows of the weight have a length m that trains and a direction that LoRA
//! changes, `y = m / |W + s B A| (W + s B A) x`, the length of each row a constant to the gradient. As in peft.

use tch::{Tensor, no_grad};

use super::lora::Update;
use crate::nn::{Affine, Delta, Init, Scope};

/// One layer.
#[derive(Debug)]
pub struct Decomposed {
    update: Update,
    /// m `[out]`
    magnitude: Tensor,
    /// Squared length of each row of the frozen weight `[out]`.
    squares: Tensor,
}

impl Decomposed {
    /// The magnitude begins as the length of the weight's rows, `norms`.
    pub fn new(at: &Scope, own: &Affine, update: Update, norms: &Tensor) -> Self {
        let is_new = !at.is_given("lora_magnitude_vector");
        let mut magnitude = at.parameter("lora_magnitude_vector", &norms.size(), Init::Ones);
        if is_new {
            no_grad(|| magnitude.copy_(norms));
        }
        let squares = no_grad(|| own.weight.square().sum_dim_intlist(1, false, None));
        Self { update, magnitude, squares }
    }

    /// m / |W + s B A| `[out]`. The squared length is that of W, of s B A, and twice their product, of which none
    /// needs a matrix of the weight's size.
    fn shares(&self, own: &Affine) -> Tensor {
        let Update { down, up, scale, .. } = &self.update;
        let lengths = no_grad(|| {
            let rows = |t: Tensor| t.sum_dim_intlist(1, false, None);
            let both = rows(own.weight.mm(&down.tr()) * up) * (2.0 * scale);
            let added = rows(up.mm(&down.mm(&down.tr())) * up) * (scale * scale);
            (&self.squares + both + added).sqrt()
        });
        &self.magnitude / lengths
    }
}

impl Delta for Decomposed {
    fn forward(&self, xs: &Tensor, own: &Affine, train: bool) -> Tensor {
        let shares = self.shares(own);
        let dropout = self.update.dropout;
        if !train || dropout.0 == 0.0 {
            let ys = own.product(xs) + self.update.product(xs);
            return ys * shares + &own.bias;
        }
        let dropped = dropout.forward(xs.shallow_clone(), train);
        let changed = own.product(&dropped) * (&shares - 1.0);
        own.forward(xs) + changed + self.update.product(&dropped) * shares
    }

    fn merged(&self, own: &Affine) -> Affine {
        no_grad(|| {
            let weight = (&own.weight + self.update.weight()) * self.shares(own).unsqueeze(1);
            Affine::new(weight, own.bias.shallow_clone())
        })
    }
}
