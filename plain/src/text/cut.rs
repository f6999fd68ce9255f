//! Texts longer than a sequence: cut off, in overlapping windows, or in chunks that lose nothing.

use anyhow::{Result, bail, ensure};
use tokenizers::{Encoding, Token};

use super::{Encoded, Texts, Tokenizer, encoded, failed};
use crate::flags::usage;

/// How long sequences may be, and whether longer texts are windows of that length.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Length {
    /// Cut sequences to N tokens, special tokens included; of a pair the longer text first
    /// [default: what the tokenizer allows, at most 512]
    #[arg(long, value_name = "N")]
    pub max_length: Option<u32>,

    /// Make windows of a longer text instead of cutting it off; each repeats the last N tokens of the one before.
    /// Of a pair the longer text is divided, and the other stands beside each window
    #[arg(long, value_name = "N")]
    pub stride: Option<u32>,
}

/// Whether sequences are filled.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Packing {
    /// Make as many sequences of a text as it takes instead of cutting it off, broken between words
    #[arg(long, conflicts_with = "stride")]
    pub pack: bool,

    /// Fill sequences across texts, with a separator between them
    #[arg(long, requires = "pack")]
    pub join: bool,
}

/// What becomes of a text that is longer than a sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cut {
    /// It is cut off.
    #[default]
    Off,
    /// Windows, each of which repeats the last so many tokens of the one before.
    Windows(u32),
    /// Chunks that end between words, unless a word is longer than a sequence.
    Chunks,
    /// It stays whole and without special tokens, for `Packer` to fill sequences with.
    Whole,
}

/// The special tokens before and after the one text of a sequence.
pub type Frame = (Vec<u32>, Vec<u32>);

impl Length {
    /// Sets the tokenizer of a model to these lengths, which may not be above the model's own.
    pub fn apply(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let most = tokenizer.max_length();
        let length = self.max_length.unwrap_or(most);
        ensure!(
            length <= most,
            usage(format!("--max-length {length}: the model takes {most} tokens"))
        );
        tokenizer.cut(length, self.cut())
    }

    pub fn cut(&self) -> Cut {
        self.stride.map_or(Cut::Off, Cut::Windows)
    }
}

impl Packing {
    /// What `length` asks for, unless texts are packed.
    pub fn cut(&self, length: &Length) -> Cut {
        match (self.pack, self.join) {
            (false, _) => length.cut(),
            (true, false) => Cut::Chunks,
            (true, true) => Cut::Whole,
        }
    }
}

impl Tokenizer {
    /// Sets how texts longer than `length` tokens, special tokens included, are cut.
    pub fn cut(&mut self, length: u32, cut: Cut) -> Result<()> {
        self.truncate(length)?;
        self.cut = cut;
        if cut == Cut::Off {
            return Ok(());
        }
        self.inner.with_truncation(None).map_err(failed)?;
        self.frame = self.framing()?;
        match cut {
            Cut::Windows(stride) => self.check_stride(stride, self.room(false)),
            _ => Ok(()),
        }
    }

    fn check_stride(&self, stride: u32, room: usize) -> Result<()> {
        let length = self.max_length();
        ensure!(
            (stride as usize) < room,
            usage(format!(
                "--stride {stride}: must be below {room}, the tokens of text in a sequence of {length}"
            ))
        );
        Ok(())
    }

    /// Tokens a sequence has room for beside its special ones.
    pub(super) fn room(&self, is_pair: bool) -> usize {
        (self.max_length() - self.special_around(is_pair)) as usize
    }

    fn framing(&self) -> Result<Frame> {
        let probe = Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0);
        let framed = self.inner.post_process(probe, None, true).map_err(failed)?;
        let at = framed.get_sequence_ids().iter().position(Option::is_some).unwrap_or(0);
        let ids = framed.get_ids();
        Ok((ids[..at].to_vec(), ids[at + 1..].to_vec()))
    }

    /// The sequences of a text, in order: one, unless it is cut into several.
    pub fn pieces(&self, texts: Texts) -> Result<Vec<Encoded>> {
        match (self.cut, texts) {
            (Cut::Off, _) => Ok(vec![self.encode(texts)?]),
            (Cut::Windows(stride), (text, None)) => {
                let windows = self.split(self.body(text)?, self.room(false), stride);
                windows.into_iter().map(|window| self.around(window, None)).collect()
            }
            (Cut::Windows(stride), (text, Some(pair))) => self.pair_windows(text, pair, stride),
            (_, (_, Some(_))) => {
                let cure = "--stride makes windows of pairs, too";
                bail!(usage("--pack is for single texts, and these are pairs").hint(cure))
            }
            (Cut::Chunks, (text, None)) => Ok(self.chunks(&encoded(&self.body(text)?, false))),
            (Cut::Whole, (text, None)) => Ok(vec![encoded(&self.body(text)?, false)]),
        }
    }

    /// A text whole, without special tokens.
    fn body(&self, text: &str) -> Result<Encoding> {
        self.inner.encode(text, false).map_err(failed)
    }

    /// Windows of at most `room` tokens, as transformers' `stride` makes them.
    fn split(&self, mut body: Encoding, room: usize, stride: u32) -> Vec<Encoding> {
        body.truncate(room, stride as usize, self.direction);
        let rest = body.take_overflowing();
        [vec![body], rest].concat()
    }

    fn around(&self, text: Encoding, pair: Option<Encoding>) -> Result<Encoded> {
        let is_pair = pair.is_some();
        Ok(encoded(&self.inner.post_process(text, pair, true).map_err(failed)?, is_pair))
    }

    /// Windows of the longer text, the other beside each. Where both are long, the other is cut, so that a window always
    /// goes on by half of what the stride leaves.
    fn pair_windows(&self, text: &str, pair: &str, stride: u32) -> Result<Vec<Encoded>> {
        let room = self.room(true);
        self.check_stride(stride, room)?;
        let (text, pair) = (self.body(text)?, self.body(pair)?);
        let first_is_longer = text.len() > pair.len();
        let (long, mut short) = if first_is_longer { (text, pair) } else { (pair, text) };
        let most = (room - stride as usize) / 2;
        let truncated = long.len() + short.len() > room && short.len() > most;
        if truncated {
            short.truncate(most, 0, self.direction);
            short.take_overflowing();
        }
        let windows = self.split(long, room - short.len(), stride);
        let beside = |window| {
            let short = short.clone();
            let (a, b) = if first_is_longer { (window, short) } else { (short, window) };
            Ok(Encoded { truncated, ..self.around(a, Some(b))? })
        };
        windows.into_iter().map(beside).collect()
    }

    fn chunks(&self, body: &Encoded) -> Vec<Encoded> {
        let room = self.room(false);
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < body.tokens.len() || chunks.is_empty() {
            let end = match fitting(&body.words[at..], room) {
                0 if at < body.tokens.len() => at + room,
                fitting => at + fitting,
            };
            chunks.push(self.framed(&body.tokens[at..end], &body.words[at..end]));
            at = end;
        }
        chunks
    }

    /// A sequence of these tokens, special ones around them. What a chunk begins with counts as the beginning of a word.
    pub(super) fn framed(&self, tokens: &[u32], words: &[bool]) -> Encoded {
        let (before, after) = &self.frame;
        let mut begins = [vec![true; before.len()], words.to_vec()].concat();
        begins.resize(begins.len() + after.len(), true);
        begins.iter_mut().skip(before.len()).take(1).for_each(|begins| *begins = true);
        let tokens = [before, tokens, after].concat();
        Encoded { tokens, words: begins, second: None, truncated: false }
    }
}

/// How many tokens from the front make whole words and fit into `room`; `words` says which begin one.
pub fn fitting(words: &[bool], room: usize) -> usize {
    match words.len() <= room {
        true => words.len(),
        false => (0..=room).rev().find(|&end| end == 0 || words[end]).unwrap_or(0),
    }
}
