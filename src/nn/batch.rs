//! A batch: sequences end to end, and where each begins.

use tch::{Device, Kind, Tensor};

/// One sequence on its way into a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ids {
    pub tokens: Vec<u32>,
    /// Where the second text of a pair begins.
    pub second: Option<usize>,
}

/// Sequences end to end, without padding.
#[derive(Debug)]
pub struct Batch {
    /// Token ids `[tokens]`.
    pub ids: Tensor,
    /// Place of each token in its sequence, from 0 `[tokens]`.
    pub positions: Tensor,
    /// 1 in the second text of a pair, else 0 `[tokens]`.
    pub segments: Tensor,
    /// Tokens of each sequence.
    pub lengths: Vec<i64>,
    /// First token of each sequence `[batch]`.
    pub starts: Tensor,
    /// How to lay the sequences out side by side; nothing if they are equally long.
    pub(super) padding: Option<Padding>,
}

/// Indices between `[tokens]` and `[batch * time]`, for attention alone.
#[derive(Debug)]
pub(super) struct Padding {
    /// For each slot the token in it; empty slots point at token 0 `[batch * time]`.
    pub gather: Tensor,
    /// For each token its slot `[tokens]`.
    pub scatter: Tensor,
    /// 0 where a slot has a token, minus infinity where it is empty `[batch, 1, 1, time]`.
    pub mask: Tensor,
}

impl Batch {
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Ids>, device: Device) -> Self {
        let sequences: Vec<&Ids> = sequences.into_iter().collect();
        let lengths: Vec<i64> = sequences.iter().map(|s| s.tokens.len() as i64).collect();
        let tokens = sequences.iter().flat_map(|s| s.tokens.iter().map(|&id| i64::from(id)));
        let positions = lengths.iter().flat_map(|&length| 0..length);
        let segments = sequences.iter().flat_map(|s| {
            let second = s.second.unwrap_or(usize::MAX);
            (0..s.tokens.len()).map(move |t| i64::from(t >= second))
        });
        let starts = lengths.iter().scan(0, |next, length| {
            *next += length;
            Some(*next - length)
        });
        let tensor = |values: Vec<i64>| Tensor::from_slice(&values).to_device(device);
        Self {
            ids: tensor(tokens.collect()),
            positions: tensor(positions.collect()),
            segments: tensor(segments.collect()),
            starts: tensor(starts.collect()),
            padding: Padding::new(&lengths, device),
            lengths,
        }
    }

    /// Number of sequences.
    pub fn len(&self) -> i64 {
        self.lengths.len() as i64
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Tokens of the longest sequence.
    pub fn time(&self) -> i64 {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// The first token of each sequence: `[tokens, hidden]` to `[batch, hidden]`.
    pub fn first(&self, xs: &Tensor) -> Tensor {
        xs.index_select(0, &self.starts)
    }
}

impl Padding {
    fn new(lengths: &[i64], device: Device) -> Option<Self> {
        let time = lengths.iter().copied().max().unwrap_or(0);
        if lengths.iter().all(|&length| length == time) {
            return None;
        }
        let slots = lengths.len() * time as usize;
        let mut gather = vec![0; slots];
        let mut mask = vec![f32::NEG_INFINITY; slots];
        let mut scatter = Vec::new();
        for (row, &length) in lengths.iter().enumerate() {
            for slot in (row as i64 * time)..(row as i64 * time + length) {
                gather[slot as usize] = scatter.len() as i64;
                mask[slot as usize] = 0.0;
                scatter.push(slot);
            }
        }
        let shape = [lengths.len() as i64, 1, 1, time];
        let mask = Tensor::from_slice(&mask).reshape(shape).to_kind(Kind::Float);
        Some(Self {
            gather: Tensor::from_slice(&gather).to_device(device),
            scatter: Tensor::from_slice(&scatter).to_device(device),
            mask: mask.to_device(device),
        })
    }
}
