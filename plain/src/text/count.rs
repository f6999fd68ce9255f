use std::fmt;

use super::Encoded;
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
    /// Adds a row, whose text is in these pieces.
    pub fn row(&mut self, text: &str, pieces: &[Encoded]) {
        self.rows += 1;
        self.empty += u64::from(text.is_empty());
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
