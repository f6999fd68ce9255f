//! The tensors of a segment, as bytes, while sequences come.

use anyhow::{Context, Result};
use safetensors::Dtype;

use super::ints;
use super::open::Labels;
use super::problem::Problem;
use super::write::Sequence;

/// A tensor to be written: name, dtype, shape, bytes.
pub type Column<'a> = (&'static str, Dtype, Vec<usize>, &'a [u8]);

#[derive(Default)]
pub struct Columns {
    /// Bytes of an id.
    width: usize,
    tokens: Vec<u8>,
    offsets: Vec<u8>,
    second: Vec<u8>,
    words: Vec<u8>,
    rows: Vec<u8>,
    problem: Problem,
    /// The numbers of each sequence's labels, where they are classes: among the names that were given, else in the order
    /// they were met in.
    classes: Vec<Vec<usize>>,
    /// The number of each sequence, where its label is one.
    numbers: Vec<u8>,
    met: Labels,
}

/// The tensor of labels, and the names of the classes.
pub struct LabelColumn {
    pub names: Option<Vec<String>>,
    dtype: Dtype,
    /// The columns of a table; none of a list.
    each: Option<usize>,
    bytes: Vec<u8>,
}

impl Columns {
    pub fn new(width: usize) -> Self {
        Self { width, offsets: vec![0; 8], ..Self::default() }
    }

    /// The same for labels of this kind.
    pub fn of(self, problem: Problem) -> Self {
        Self { problem, ..self }
    }

    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.width
    }

    /// Adds a sequence. Its labels are looked for among `names`, if given.
    pub fn push(&mut self, sequence: &Sequence, names: Option<&Labels>) -> Result<()> {
        let Sequence { tokens, words, second, label, row } = sequence;
        if let Some(label) = label {
            self.label(label, names).with_context(|| format!("row {row}"))?;
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

    fn label(&mut self, label: &str, names: Option<&Labels>) -> Result<()> {
        let mut number = |name: &str| {
            let number = names.map_or_else(|| Some(self.met.add(name)), |names| names.find(name));
            number.with_context(|| format!("unknown label {name:?}"))
        };
        match self.problem {
            Problem::Classes => self.classes.push(vec![number(label)?]),
            Problem::MultiLabel => {
                let list: Vec<String> = serde_json::from_str(label).context("label")?;
                self.classes.push(list.iter().map(|name| number(name)).collect::<Result<_>>()?);
            }
            Problem::Regression => {
                let value = label.parse().ok().filter(|value: &f32| value.is_finite());
                let value = value.with_context(|| format!("label {label:?} is not a number"))?;
                self.numbers.extend(value.to_le_bytes());
            }
        }
        Ok(())
    }

    /// The names of the classes, `names` if given, else those met, sorted; and the tensor of labels.
    pub fn labels(&self, names: Option<&Labels>) -> LabelColumn {
        if self.problem == Problem::Regression {
            let bytes = self.numbers.clone();
            return LabelColumn { names: None, dtype: Dtype::F32, each: None, bytes };
        }
        let (names, places) = self.places(names);
        if self.problem == Problem::Classes {
            let classes = self.classes.iter().flatten();
            let bytes = classes.flat_map(|&class| (places[class] as i64).to_le_bytes()).collect();
            return LabelColumn { names: Some(names), dtype: Dtype::I64, each: None, bytes };
        }
        let mut table = vec![0f32; self.classes.len() * names.len()];
        for (row, classes) in self.classes.iter().enumerate() {
            classes.iter().for_each(|&class| table[row * names.len() + places[class]] = 1.0);
        }
        let (each, bytes) = (Some(names.len()), table.into_iter().flat_map(f32::to_le_bytes));
        LabelColumn { names: Some(names), dtype: Dtype::F32, each, bytes: bytes.collect() }
    }

    /// The names of the classes in their order, and where each of `classes` stands there.
    fn places(&self, names: Option<&Labels>) -> (Vec<String>, Vec<usize>) {
        let all = names.unwrap_or(&self.met).names();
        let mut order: Vec<usize> = (0..all.len()).collect();
        if names.is_none() {
            order.sort_by_key(|&class| by_number(&all[class]));
        }
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &class)| places[class] = place);
        (order.into_iter().map(|class| all[class].clone()).collect(), places)
    }

    /// The tensors, with `labels` if there are any.
    pub fn tensors<'a>(&'a self, labels: Option<&'a LabelColumn>) -> Vec<Column<'a>> {
        let n = self.rows.len() / 8;
        let mut tensors: Vec<Column> = vec![
            ("offsets", Dtype::U64, vec![n + 1], &self.offsets[..]),
            ("rows", Dtype::U64, vec![n], &self.rows[..]),
        ];
        if let Some(LabelColumn { dtype, each, bytes, .. }) = labels {
            let shape = [n].into_iter().chain(*each).collect();
            // 8 bytes each come before 4 bytes each, 4 before 2.
            tensors.push(("labels", *dtype, shape, bytes));
        }
        tensors.push(("tokens", id_dtype(self.width), vec![self.len()], &self.tokens[..]));
        if !self.second.is_empty() {
            tensors.push(("second", Dtype::U16, vec![n], &self.second[..]));
        }
        tensors.push(("words", Dtype::U8, vec![self.words.len()], &self.words[..]));
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
