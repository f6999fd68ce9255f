use std::fmt;

use super::{Encoded, Texts};
use crate::shard::Sequence;

/// What was encoded, for a summary.
#[derive(Debug, Default)]
pub struct Count {
    rows: u64,
    sequences: u64,
    tokens: u64,
    truncated: u64,
    empty: u64,
}

impl Count {
    /// Adds a row, whose text is in these pieces; without a word it is empty.
    pub fn row(&mut self, (text, pair): Texts, pieces: &[Encoded]) {
        self.rows += 1;
        let blank = |text: &str| text.trim().is_empty();
        self.empty += u64::from(blank(text) && pair.is_none_or(blank));
        self.truncated += u64::from(pieces.iter().any(|piece| piece.truncated));
    }

    /// Adds sequences that are written.
    pub fn sequences(&mut self, sequences: &[Sequence]) {
        self.sequences += sequences.len() as u64;
        self.tokens += sequences.iter().map(|sequence| sequence.tokens.len() as u64).sum::<u64>();
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} rows, ", self.rows)?;
        if self.sequences != self.rows {
            write!(f, "{} sequences, ", self.sequences)?;
        }
        write!(f, "{} tokens, {} truncated", self.tokens, self.truncated)?;
        if self.empty > 0 { write!(f, ", {} empty", self.empty) } else { Ok(()) }
    }
}
