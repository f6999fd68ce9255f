//! The one attention: over unpadded tokens outside, side by side inside.

use tch::{Kind, Tensor};

use super::batch::{Batch, Chosen};
use super::layers::Dropout;
use super::plan::Prefix;
use super::scope::Scope;
use crate::native;

/// Scaled dot-product attention within each sequence (Vaswani et al. 2017, section 3.2), and to the prefix of the plan if
/// it has one.
#[derive(Debug)]
pub struct Attention {
    heads: i64,
    /// On the attention weights.
    dropout: Dropout,
    prefix: Option<Box<dyn Prefix>>,
}

impl Attention {
    pub fn new(scope: &Scope, hidden: i64, heads: i64, dropout: Dropout) -> Self {
        Self { heads, dropout, prefix: scope.prefix(hidden) }
    }

    /// Whether queries of some tokens alone can be asked, with keys and values such as `xs`.
    pub fn chooses(&self, xs: &Tensor) -> bool {
        self.prefix.is_none() && native::takes(xs)
    }

    /// `q`, `k`, `v` are `[tokens, hidden]`, and so is the result.
    pub fn forward(&self, qkv: [&Tensor; 3], batch: &Batch, train: bool) -> Tensor {
        match self.chooses(qkv[0]) {
            true => self.native(qkv, [&batch.lengths, &batch.lengths], train),
            false => self.side_by_side(qkv, batch, train),
        }
    }

    /// The same for queries of some tokens `[chosen, hidden]`, where that is possible.
    pub fn of(&self, qkv: [&Tensor; 3], chosen: &Chosen, batch: &Batch, train: bool) -> Tensor {
        self.native(qkv, [&batch.lengths, &chosen.counts], train)
    }

    fn native(&self, qkv: [&Tensor; 3], lengths: [&[i64]; 2], train: bool) -> Tensor {
        let p = if train { self.dropout.0 } else { 0.0 };
        native::attention(qkv, lengths, self.heads, p)
    }

    /// By LibTorch's operations. Queries, keys and values alone are laid out side by side; empty slots get no weight, and
    /// what they compute is dropped.
    fn side_by_side(&self, [q, k, v]: [&Tensor; 3], batch: &Batch, train: bool) -> Tensor {
        let padding = batch.padding.as_ref();
        let [q, k, v] = [q, k, v].map(|xs| self.split(xs, batch));
        let mask = padding.map(|padding| padding.mask.to_kind(q.kind()));
        let (k, v, mask) = match &self.prefix {
            None => (k, v, mask),
            Some(prefix) => self.extended(&**prefix, [k, v], mask),
        };
        let ys = if train && self.dropout.0 > 0.0 {
            weigh(&q, &k, &v, mask.as_ref(), self.dropout)
        } else {
            let (rows, time) = (batch.len(), batch.time());
            let shape = [rows, self.heads, time, k.size()[2]];
            let mask = mask.map(|mask| mask.expand(shape, true));
            Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, None, false)
        };
        let ys = ys.transpose(1, 2).reshape([batch.len() * batch.time(), -1]);
        padding.map_or_else(|| ys.shallow_clone(), |p| ys.index_select(0, &p.scatter))
    }

    /// `[tokens, hidden]` to `[batch, heads, time, hidden / heads]`.
    fn split(&self, xs: &Tensor, batch: &Batch) -> Tensor {
        let hidden = xs.size()[1];
        let xs = batch.padding.as_ref().map_or_else(|| xs.shallow_clone(), |p| p.spread(xs));
        xs.view([batch.len(), batch.time(), self.heads, hidden / self.heads]).transpose(1, 2)
    }

    /// Keys and values with those of the prefix before them, and the mask that lets every token see it.
    fn extended(
        &self,
        prefix: &dyn Prefix,
        own: [Tensor; 2],
        mask: Option<Tensor>,
    ) -> (Tensor, Tensor, Option<Tensor>) {
        let [k, v] = prefix.forward().map(|xs| xs.to_kind(own[0].kind()));
        let (rows, length) = (own[0].size()[0], k.size()[0]);
        let before = |prefix: &Tensor, own: &Tensor| {
            let prefix = prefix.view([1, length, self.heads, -1]).transpose(1, 2);
            Tensor::cat(&[prefix.expand([rows, -1, -1, -1], true), own.shallow_clone()], 2)
        };
        let seen = |mask: Tensor| {
            Tensor::cat(
                &[mask.new_zeros([rows, 1, 1, length], (mask.kind(), mask.device())), mask],
                3,
            )
        };
        (before(&k, &own[0]), before(&v, &own[1]), mask.map(seen))
    }
}

/// Attention step by step: LibTorch's fused kernel for the CPU knows no dropout.
fn weigh(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, dropout: Dropout) -> Tensor {
    let head = q.size()[3] as f64;
    let scores = (q / head.sqrt()).matmul(&k.transpose(-2, -1));
    let scores = match mask {
        Some(mask) => scores + mask,
        None => scores,
    };
    let weights = scores.softmax(-1, Kind::Float).to_kind(q.kind());
    dropout.forward(weights, true).matmul(v)
}

impl super::batch::Padding {
    /// `[tokens, hidden]` to `[batch * time, hidden]`. As a table look-up, whose gradient LibTorch adds up in
    /// parallel; slot values that belong to no token are masked, so their gradient is zero.
    fn spread(&self, xs: &Tensor) -> Tensor {
        Tensor::embedding(xs, &self.gather, -1, false, false)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::Ids;

    /// What is computed of fixed q, k and v, and the gradients of all three for a fixed gradient of the output.
    fn computed(
        lengths: &[usize],
        dropout: Dropout,
        run: impl Fn(&Attention, [&Tensor; 3], &Batch, bool) -> Tensor,
    ) -> [Tensor; 4] {
        let sequences = lengths.iter().map(|&length| Ids { tokens: vec![0; length], second: None });
        let batch = Batch::new(&sequences.collect::<Vec<Ids>>(), Device::Cpu);
        let tokens = lengths.iter().sum::<usize>() as i64;
        // Not drawn: other tests draw from the one generator at the same time.
        let waves = |pace: f64| {
            let places = Tensor::arange(tokens * 8, (Kind::Float, Device::Cpu));
            ((places + 1.0) * pace).sin().view([tokens, 8])
        };
        let [q, k, v] = [1.3, 2.1, 0.7].map(|pace| (waves(pace) * 3.0).set_requires_grad(true));
        let given = waves(1.7);
        let attention = Attention { heads: 2, dropout, prefix: None };
        let ys = run(&attention, [&q, &k, &v], &batch, true);
        (&ys * given).sum(Kind::Float).backward();
        [ys.detach(), q.grad(), k.grad(), v.grad()]
    }

    /// A dropout too small to drop anything takes the path of one that does.
    #[test]
    fn every_path_computes_the_same() {
        for lengths in [&[4, 4, 4][..], &[5, 1, 3, 2], &[1]] {
            let native = computed(lengths, Dropout(0.0), Attention::forward);
            let side_by_side =
                [0.0, 1e-12].map(|p| computed(lengths, Dropout(p), Attention::side_by_side));
            for other in &side_by_side {
                for (name, (a, b)) in ["ys", "q", "k", "v"].iter().zip(native.iter().zip(other)) {
                    let difference = (a - b).abs().max().double_value(&[]);
                    assert!(difference < 1e-5, "{name} of {lengths:?} differs by {difference:e}");
                    let largest = a.abs().max().double_value(&[]);
                    assert!(
                        largest > 0.1 || lengths == [1],
                        "{name} of {lengths:?} is next to nothing"
                    );
                }
            }
        }
    }

    #[test]
    fn dropout_drops_weights_of_attention() {
        for run in [Attention::forward, Attention::side_by_side] {
            let [whole, dropped] = [0.0, 0.5].map(|p| computed(&[5, 3], Dropout(p), run));
            assert!((&whole[0] - &dropped[0]).abs().max().double_value(&[]) > 0.1);
        }
    }
}
