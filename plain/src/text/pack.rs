//! From the pieces of texts to sequences, filled across texts where that is asked for: FULL-SENTENCES of RoBERTa
//! (Liu et al. 2019, section 4.2), but that a text is broken between words.

use anyhow::{Result, ensure};

use super::body::Part;
use super::cut::{Cut, fitting};
use super::{Count, Encoded, Texts, Tokenizer};
use crate::flags::usage;
use crate::shard::Sequence;

/// Takes the pieces of one text after the other, and gives sequences.
pub struct Packer<'a> {
    tokenizer: &'a Tokenizer,
    count: Count,
    /// With `Cut::Whole`: what the next sequence has so far, without special tokens around it.
    tokens: Vec<u32>,
    words: Vec<bool>,
    /// The row its first token came from.
    row: u64,
}

impl<'a> Packer<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, count: Count::default(), tokens: vec![], words: vec![], row: 0 }
    }

    /// The sequences that are whole once `texts`, of row `row`, have come as `pieces`. Fails on a label where texts are
    /// joined.
    pub fn add(
        &mut self,
        texts: Texts,
        pieces: Vec<Encoded>,
        label: Option<String>,
        row: u64,
    ) -> Result<Vec<Sequence>> {
        self.count.row(texts, &pieces);
        let sequences: Vec<Sequence> = if self.tokenizer.cut == Cut::Whole {
            let cure = "--label none leaves labels out";
            ensure!(label.is_none(), usage("--join: texts with labels stay apart").hint(cure));
            pieces.iter().flat_map(|text| self.join(text, row)).collect()
        } else {
            pieces.into_iter().map(|piece| piece.into_sequence(label.clone(), row)).collect()
        };
        self.count.sequences(&sequences);
        Ok(sequences)
    }

    /// The last sequence of joined texts.
    pub fn rest(&mut self) -> Option<Sequence> {
        let last = if self.tokens.is_empty() { None } else { Some(self.close()) };
        self.count.sequences(last.as_slice());
        last
    }

    /// What was added and what came of it.
    pub fn into_count(self) -> Count {
        self.count
    }

    fn join(&mut self, text: &Encoded, row: u64) -> Vec<Sequence> {
        let (room, separator) = (self.tokenizer.room(false), self.tokenizer.special.sep);
        let (mut whole, mut at) = (Vec::new(), 0);
        while at < text.tokens.len() {
            let between = usize::from(!self.tokens.is_empty());
            let free = room - self.tokens.len();
            let end = match fitting(&text.words[at..], free.saturating_sub(between)) {
                0 if between == 1 => {
                    whole.push(self.close());
                    continue;
                }
                0 => at + free,
                fitting => at + fitting,
            };
            if between == 1 {
                self.tokens.push(separator);
                self.words.push(true);
            } else {
                self.row = row;
            }
            self.tokens.extend(&text.tokens[at..end]);
            self.words.extend(&text.words[at..end]);
            if end < text.tokens.len() {
                whole.push(self.close());
            }
            at = end;
        }
        whole
    }

    fn close(&mut self) -> Sequence {
        let part = Part { tokens: &self.tokens, words: &self.words };
        let framed = self.tokenizer.frame(false).around(part, None);
        self.tokens.clear();
        self.words.clear();
        framed.into_sequence(None, self.row)
    }
}
