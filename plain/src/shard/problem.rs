//! What the labels of a shard are: one class a text, any number of classes, or a number.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::columns::Column;
use super::ints::u64_at;
use super::tensors::Tensors;

/// What is to be predicted, under transformers' names of `problem_type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Problem {
    #[default]
    Classes,
    MultiLabel,
    Regression,
}

impl Problem {
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "single_label_classification",
            Self::MultiLabel => "multi_label_classification",
            Self::Regression => "regression",
        }
    }

    /// The problem of this name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::Classes, Self::MultiLabel, Self::Regression].into_iter().find(|p| p.name() == name)
    }
}

/// A number as JSON, with no more digits than tell it from others of 32 bits.
pub fn in_digits(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().ok())
}

/// The labels of a segment: where they lie in its bytes, and what they are.
#[derive(Debug, Clone)]
pub struct Targets {
    at: Range<usize>,
    pub problem: Problem,
    /// Numbers of a row.
    each: usize,
}

impl Targets {
    /// The tensor of labels, if there is one.
    pub fn find(tensors: &Tensors, len: usize) -> Result<Option<Self>> {
        let Some(info) = tensors.layout.info("labels") else { return Ok(None) };
        let (problem, each) = match (info.dtype, &info.shape[..]) {
            (Dtype::I64, [_]) => (Problem::Classes, 1),
            (Dtype::F32, [_]) => (Problem::Regression, 1),
            (Dtype::F32, &[_, each]) => (Problem::MultiLabel, each),
            (dtype, shape) => bail!(
                "tensor `labels` is {dtype:?} of shape {shape:?}, not I64 (classes) or F32 \
                 (numbers, or a row of them per text)"
            ),
        };
        let found = info.shape[0];
        ensure!(found == len, "tensor `labels` has {found} entries, not {len}");
        let (from, to) = info.data_offsets;
        let at = tensors.data + from..tensors.data + to;
        Ok(Some(Self { at, problem, each }))
    }

    /// Bytes of a row.
    fn size(&self) -> usize {
        self.each * if self.problem == Problem::Classes { 8 } else { 4 }
    }

    /// The first `n` rows.
    pub fn narrowed(mut self, n: usize) -> Self {
        self.at.end = self.at.end.min(self.at.start + n * self.size());
        self
    }

    /// The class of row `i`.
    pub fn class(&self, bytes: &[u8], i: usize) -> Option<usize> {
        let at = || u64_at(&bytes[self.at.clone()], i) as usize;
        (self.problem == Problem::Classes).then(at)
    }

    /// The numbers of row `i`; none where it has a class.
    pub fn numbers<'a>(&self, bytes: &'a [u8], i: usize) -> impl Iterator<Item = f32> + use<'a> {
        let row = match self.problem {
            Problem::Classes => &[],
            _ => &bytes[self.at.clone()][i * self.size()..(i + 1) * self.size()],
        };
        row.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Row `i` as JSON: the name of its class, a list of names, or a number.
    pub fn to_json(&self, bytes: &[u8], i: usize, names: &[String]) -> Value {
        let mut numbers = self.numbers(bytes, i);
        match self.problem {
            Problem::Classes => json!(self.class(bytes, i).map(|class| &names[class])),
            Problem::Regression => numbers.next().map_or(Value::Null, in_digits),
            Problem::MultiLabel => names
                .iter()
                .zip(numbers)
                .filter(|(_, is)| *is > 0.0)
                .map(|(name, _)| name.as_str())
                .collect(),
        }
    }

    /// Fails on what no label can be; `names` classes have a name.
    pub fn check(&self, bytes: &[u8], len: usize, names: usize) -> Result<()> {
        let (many, each) = (self.problem == Problem::MultiLabel, self.each);
        ensure!(!many || each == names, "tensor `labels`: {each} columns, and {names} names");
        for i in 0..len {
            if let Some(class) = self.class(bytes, i).filter(|&class| class >= names) {
                bail!("tensor `labels`: {} has no name", class as i64);
            }
            for number in self.numbers(bytes, i) {
                ensure!(number.is_finite(), "tensor `labels`: entry {i} is not a number");
                let is_set = !many || number == 0.0 || number == 1.0;
                ensure!(is_set, "tensor `labels`: entry {i} is {number}, neither 0 nor 1");
            }
        }
        Ok(())
    }

    /// The tensor, to be written again.
    pub fn column<'a>(&self, bytes: &'a [u8], len: usize) -> Column<'a> {
        let (dtype, shape) = match self.problem {
            Problem::Classes => (Dtype::I64, vec![len]),
            Problem::Regression => (Dtype::F32, vec![len]),
            Problem::MultiLabel => (Dtype::F32, vec![len, self.each]),
        };
        ("labels", dtype, shape, &bytes[self.at.clone()])
    }
}
