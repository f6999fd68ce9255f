//! Vectors as JSON lines: `{"row":0,"embedding":[…]}`.

use std::io::Write;

use anyhow::Result;
use serde::{Serialize, Serializer};

use super::Vectors;
use crate::cli::Output;

/// A line for each text, on its way as soon as its window is done.
pub struct VectorLines {
    out: Output,
    /// Of one vector.
    shape: Vec<usize>,
    pooled: bool,
}

/// Serialized as it is: a JSON value would widen the numbers to digits they do not have.
#[derive(Serialize)]
struct Line<'a> {
    row: u64,
    embedding: Nested<'a>,
}

/// Numbers as lists of lists of this shape.
struct Nested<'a> {
    shape: &'a [usize],
    numbers: &'a [f32],
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let inner = self.shape.get(1..).unwrap_or_default();
        if inner.is_empty() {
            return self.numbers.serialize(to);
        }
        let parts = self.numbers.chunks(inner.iter().product::<usize>().max(1));
        to.collect_seq(parts.map(|numbers| Nested { shape: inner, numbers }))
    }
}

impl VectorLines {
    pub fn new(out: Output, shape: Vec<usize>, pooled: bool) -> Self {
        Self { out, shape, pooled }
    }

    pub fn write(&mut self, vectors: &Vectors) -> Result<()> {
        let each: usize = self.shape.iter().product();
        let mut rest = &vectors.numbers[..];
        for (&row, &count) in vectors.rows.iter().zip(&vectors.counts) {
            let (numbers, after) = rest.split_at(count * each);
            let tokens = (!self.pooled).then_some(count);
            let shape: Vec<usize> = tokens.into_iter().chain(self.shape.iter().copied()).collect();
            let line = Line { row, embedding: Nested { shape: &shape, numbers } };
            writeln!(self.out, "{}", serde_json::to_string(&line)?)?;
            rest = after;
        }
        Ok(self.out.flush()?)
    }

    pub fn finish(self) -> Result<()> {
        self.out.commit()
    }
}
