//! A segment as one looks into it: counts from its header, and its first sequences.

use anyhow::Result;

use super::segment::Segment;

/// What a segment's header says, and as many of its sequences as were asked for.
#[derive(Debug)]
pub struct Outline {
    /// Numbers of the whole segment, as declared.
    pub sequences: usize,
    pub tokens: usize,
    /// Masked positions; 0 where it is not masked.
    pub masked: usize,
    /// The first sequences, checked. `bytes` is the whole blob still.
    pub first: Segment,
}

impl Outline {
    pub(super) fn new(declared: Segment, n: usize) -> Result<Self> {
        let (sequences, tokens) = (declared.len(), declared.tokens().len());
        let masked = declared.masked_len();
        let first = declared.narrowed(n);
        first.check()?;
        Ok(Self { sequences, tokens, masked, first })
    }
}
