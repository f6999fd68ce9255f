use std::fmt;

use super::Encoded;

/// What was encoded, for a summary.
#[derive(Debug, Default)]
pub struct Count {
    rows: u64,
    tokens: u64,
    truncated: u64,
    empty: u64,
}

impl Count {
    /// Adds a sequence; `empty` if its text was.
    pub fn add(&mut self, encoded: &Encoded, empty: bool) {
        self.rows += 1;
        self.tokens += encoded.tokens.len() as u64;
        self.truncated += u64::from(encoded.truncated);
        self.empty += u64::from(empty);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} rows, {} tokens, {} truncated", self.rows, self.tokens, self.truncated)?;
        if self.empty > 0 { write!(f, ", {} empty", self.empty) } else { Ok(()) }
    }
}
