//! A batch: sequences end to end, and where each begins.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::native::Place;

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
    /// Tokens at the head of every sequence that are in no text.
    virtual_tokens: i64,
    /// NEFTune's alpha: how much noise training adds to the words; 0 for none.
    pub noise: f64,
    /// Whether training keeps the input of each layer alone, and computes the rest again on the way back.
    pub recomputes: bool,
    /// The numbers it is computed in; parameters are f32 where these are shorter.
    kind: Kind,
    /// How to lay the sequences out side by side; nothing if they are equally long.
    pub(super) padding: Option<Rc<Padding>>,
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
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Ids>, place: impl Into<Place>) -> Self {
        let Place { device, kind } = place.into();
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
            virtual_tokens: 0,
            padding: Padding::new(&lengths, device).map(Rc::new),
            noise: 0.0,
            recomputes: false,
            kind,
            lengths,
        }
    }

    /// The bound of the noise on each token's word `[tokens, 1]`: alpha over the root of the tokens of its sequence
    /// times `hidden` (Jain et al. 2023). transformers takes the padded length of the batch instead.
    fn noise_bounds(&self, hidden: i64) -> Tensor {
        let own = |length: i64| length - self.virtual_tokens;
        let bound = |length: i64| (self.noise / ((own(length) * hidden) as f64).sqrt()) as f32;
        let of = |(&length, t)| if t < self.virtual_tokens { 0.0 } else { bound(length) };
        let tokens = self.lengths.iter().flat_map(|n| (0..*n).map(move |t| (n, t)));
        let bounds: Vec<f32> = tokens.map(of).collect();
        Tensor::from_slice(&bounds).unsqueeze(-1).to_device(self.ids.device())
    }

    /// Words `[tokens, hidden]` with the batch's noise, uniform around 0.
    pub(super) fn with_noise(&self, words: Tensor) -> Tensor {
        let bounds = self.noise_bounds(words.size()[1]);
        let noise = words.detach().rand_like() * 2 - 1;
        words + noise * bounds
    }

    /// The same batch: its tensors are shared.
    pub fn shallow_clone(&self) -> Self {
        Self {
            ids: self.ids.shallow_clone(),
            positions: self.positions.shallow_clone(),
            segments: self.segments.shallow_clone(),
            lengths: self.lengths.clone(),
            starts: self.starts.shallow_clone(),
            padding: self.padding.clone(),
            ..*self
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

    /// The same sequences with `count` virtual tokens before each, whose ids are `first` and those after it.
    pub fn behind(&self, count: i64, first: i64) -> Self {
        let options = (Kind::Int64, self.ids.device());
        let before = Tensor::arange_start(first, first + count, options);
        let joined = |own: &Tensor, before: &Tensor| {
            let own = own.split_with_sizes(&self.lengths, 0).into_iter();
            let all = own.flat_map(|own| [before.shallow_clone(), own]).collect::<Vec<_>>();
            Tensor::cat(&all, 0)
        };
        let lengths: Vec<i64> = self.lengths.iter().map(|length| length + count).collect();
        let behind = Tensor::arange(self.len(), options) * count;
        Self {
            ids: joined(&self.ids, &before),
            positions: joined(&(&self.positions + count), &Tensor::arange(count, options)),
            segments: joined(&self.segments, &before.zeros_like()),
            starts: &self.starts + behind,
            virtual_tokens: count,
            noise: self.noise,
            recomputes: self.recomputes,
            kind: self.kind,
            padding: Padding::new(&lengths, self.ids.device()).map(Rc::new),
            lengths,
        }
    }

    /// The tokens that are no virtual ones: `[tokens, hidden]` to as many as are in texts.
    pub fn own(&self, xs: &Tensor) -> Tensor {
        let own = |&length: &i64| [self.virtual_tokens, length - self.virtual_tokens];
        let sizes: Vec<i64> = self.lengths.iter().flat_map(own).collect();
        let parts = xs.split_with_sizes(sizes, 0);
        Tensor::cat(&parts.iter().skip(1).step_by(2).collect::<Vec<_>>(), 0)
    }

    /// `xs` in the numbers that the batch is computed in.
    pub fn cast(&self, xs: &Tensor) -> Tensor {
        if self.kind == Kind::BFloat16 { xs.to_kind(self.kind) } else { xs.shallow_clone() }
    }

    /// The first token of each sequence: `[tokens, hidden]` to `[batch, hidden]`.
    pub fn first(&self, xs: &Tensor) -> Tensor {
        xs.index_select(0, &self.starts)
    }
}

/// Tokens of a batch, sequence by sequence: those whose hidden states are asked for.
#[derive(Debug)]
pub struct Chosen {
    /// Their numbers in the batch, rising `[chosen]`.
    pub index: Tensor,
    /// How many there are of each sequence.
    pub counts: Vec<i64>,
}

impl Chosen {
    /// The tokens of these numbers `[chosen]`; nothing where they do not rise, or would have to be waited for.
    pub fn new(batch: &Batch, index: &Tensor) -> Option<Self> {
        if index.device() != Device::Cpu {
            return None;
        }
        let numbers = Vec::<i64>::try_from(index).ok()?;
        let mut rest = numbers.is_sorted().then_some(&numbers[..])?;
        let mut end = 0;
        let count = |length: &i64| {
            end += length;
            let (own, others) = rest.split_at(rest.partition_point(|&number| number < end));
            rest = others;
            own.len() as i64
        };
        let counts = batch.lengths.iter().map(count).collect();
        Some(Self { index: index.shallow_clone(), counts })
    }

    /// What these tokens have of `[tokens, hidden]`: `[chosen, hidden]`.
    pub fn of(&self, xs: &Tensor) -> Tensor {
        xs.index_select(0, &self.index)
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
