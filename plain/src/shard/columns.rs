//! The tensors of a segment, as bytes, while sequences come.

use anyhow::{Context, Result};
use safetensors::Dtype;

use super::ints;
use super::open::Labels;
use super::write::Sequence;

#[derive(Default)]
pub struct Columns {
    /// Bytes of an id.
    width: usize,
    tokens: Vec<u8>,
    offsets: Vec<u8>,
    second: Vec<u8>,
    words: Vec<u8>,
    rows: Vec<u8>,
    /// The number of each sequence's label: among the names that were given, else in the order they were met in.
    labels: Vec<usize>,
    met: Labels,
}

impl Columns {
    pub fn new(width: usize) -> Self {
        Self { width, offsets: vec![0; 8], ..Self::default() }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.width
    }

    /// Adds a sequence. Its label is looked for among `names`, if given.
    pub fn push(&mut self, sequence: &Sequence, names: Option<&Labels>) -> Result<()> {
        let Sequence { tokens, words, second, label, row } = sequence;
        if let Some(name) = label {
            let met = |met: &mut Labels| Some(met.add(name));
            let number = names.map_or_else(|| met(&mut self.met), |names| names.find(name));
            self.labels.push(number.with_context(|| format!("row {row}: unknown label {name:?}"))?);
        }
        let start = self.len();
        tokens.iter().for_each(|&token| ints::push(&mut self.tokens, token, self.width));
        self.words.resize(self.len().div_ceil(8), 0);
        for (t, &begins) in (start..).zip(words) {
            self.words[t / 8] |= u8::from(begins) << (t % 8);
        }
        self.offsets.extend((self.len() as u64).to_le_bytes());
        self.rows.extend(row.to_le_bytes());
        self.second.extend(second.iter().flat_map(|second| second.to_le_bytes()));
        Ok(())
    }

    /// The names of the classes, `names` if given, else those met, sorted; and the tensor of labels.
    pub fn labels(&self, names: Option<&Labels>) -> (Vec<String>, Vec<u8>) {
        let all = names.unwrap_or(&self.met);
        let mut order: Vec<usize> = (0..all.names().len()).collect();
        if names.is_none() {
            order.sort_by_key(|&i| by_number(&all.names()[i]));
        }
        let mut places = vec![0_i64; order.len()];
        order.iter().zip(0..).for_each(|(&i, place)| places[i] = place);
        let sorted = order.iter().map(|&i| all.names()[i].clone()).collect();
        (sorted, self.labels.iter().flat_map(|&label| places[label].to_le_bytes()).collect())
    }

    /// The tensors by name, with dtype and length; `labels` as the method of that name gives them.
    pub fn tensors<'a>(&'a self, labels: &'a [u8]) -> Vec<(&'static str, Dtype, usize, &'a [u8])> {
        let n = self.rows.len() / 8;
        let mut tensors = vec![
            ("offsets", Dtype::U64, n + 1, &self.offsets[..]),
            ("rows", Dtype::U64, n, &self.rows[..]),
        ];
        if !labels.is_empty() {
            tensors.push(("labels", Dtype::I64, n, labels));
        }
        tensors.push(("tokens", id_dtype(self.width), self.len(), &self.tokens[..]));
        if !self.second.is_empty() {
            tensors.push(("second", Dtype::U16, n, &self.second[..]));
        }
        tensors.push(("words", Dtype::U8, self.words.len(), &self.words[..]));
        tensors
    }
}

/// Sorts "2" before "10", and numbers before words.
fn by_number(name: &str) -> ((bool, i64), &str) {
    (name.parse().map_or((true, 0), |number| (false, number)), name)
}

pub fn id_dtype(width: usize) -> Dtype {
    if width == 2 { Dtype::U16 } else { Dtype::U32 }
}
