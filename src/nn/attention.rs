//! The one attention: over unpadded tokens outside, side by side inside.

use tch::{Kind, Tensor};

use super::batch::Batch;
use super::layers::Dropout;

/// Scaled dot-product attention within each sequence (Vaswani et al. 2017, section 3.2).
///
/// `q`, `k`, `v` are `[tokens, hidden]`, and so is the result. Queries, keys and values alone are laid out
/// side by side; empty slots get no weight, and what they compute is dropped.
pub fn attention(
    [q, k, v]: [&Tensor; 3],
    batch: &Batch,
    heads: i64,
    dropout: Dropout,
    train: bool,
) -> Tensor {
    let (rows, time, hidden) = (batch.len(), batch.time(), q.size()[1]);
    let split = |xs: &Tensor| {
        let xs = batch.padding.as_ref().map_or_else(|| xs.shallow_clone(), |p| p.spread(xs));
        xs.view([rows, time, heads, hidden / heads]).transpose(1, 2)
    };
    let (q, k, v) = (split(q), split(k), split(v));
    let mask = batch.padding.as_ref().map(|padding| &padding.mask);
    let ys = if train && dropout.0 > 0.0 {
        weigh(&q, &k, &v, mask, dropout)
    } else {
        let expanded = mask.map(|mask| mask.expand([rows, heads, time, time], true));
        Tensor::scaled_dot_product_attention(&q, &k, &v, expanded, 0.0, false, None, false)
    };
    let ys = ys.transpose(1, 2).reshape([rows * time, hidden]);
    match &batch.padding {
        Some(padding) => ys.index_select(0, &padding.scatter),
        None => ys,
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
    dropout.forward(scores.softmax(-1, Kind::Float), true).matmul(v)
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
    fn computed(lengths: &[usize], dropout: Dropout) -> [Tensor; 4] {
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
        let ys = attention([&q, &k, &v], &batch, 2, dropout, true);
        (&ys * given).sum(Kind::Float).backward();
        [ys.detach(), q.grad(), k.grad(), v.grad()]
    }

    /// A dropout too small to drop anything takes the path of one that does.
    #[test]
    fn step_by_step_is_the_fused_kernel() {
        for lengths in [&[4, 4, 4][..], &[5, 1, 3, 2], &[1]] {
            let (fused, steps) =
                (computed(lengths, Dropout(0.0)), computed(lengths, Dropout(1e-12)));
            for (name, (fused, steps)) in ["ys", "q", "k", "v"].iter().zip(fused.iter().zip(&steps))
            {
                let difference = (fused - steps).abs().max().double_value(&[]);
                assert!(difference < 1e-5, "{name} of {lengths:?} differs by {difference:e}");
                let largest = fused.abs().max().double_value(&[]);
                assert!(
                    largest > 0.1 || lengths == [1],
                    "{name} of {lengths:?} is next to nothing"
                );
            }
        }
    }

    #[test]
    fn dropout_drops_weights_of_attention() {
        let (whole, dropped) = (computed(&[5, 3], Dropout(0.0)), computed(&[5, 3], Dropout(0.5)));
        assert!((&whole[0] - &dropped[0]).abs().max().double_value(&[]) > 0.1);
    }
}
