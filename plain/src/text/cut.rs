//! Texts longer than a sequence: cut off, in overlapping windows, or in chunks that lose nothing.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use tokenizers::{Encoding, Token, TruncationDirection};

use super::body::{Body, Memory, Part};
use super::{Encoded, Texts, Tokenizer, failed};
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

/// The special tokens of a sequence: before its text, between the two of a pair, after them.
pub struct Frame {
    before: Vec<u32>,
    between: Vec<u32>,
    after: Vec<u32>,
}

impl Frame {
    /// What the tokenizer puts around a text, or a pair of texts, of one token each.
    pub fn of(tokenizer: &tokenizers::Tokenizer, is_pair: bool) -> Result<Self> {
        let probe = || Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0);
        let framed = tokenizer.post_process(probe(), is_pair.then(probe), true).map_err(failed)?;
        let (ids, places) = (framed.get_ids(), framed.get_sequence_ids());
        let at = |text| places.iter().position(|place| *place == Some(text));
        let first = at(0).context("it loses texts")?;
        let (between, last) = match at(1) {
            Some(second) if is_pair => (ids[first + 1..second].to_vec(), second),
            _ => (Vec::new(), first),
        };
        Ok(Self { before: ids[..first].to_vec(), between, after: ids[last + 1..].to_vec() })
    }

    /// How many special tokens there are.
    pub fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// A sequence of some tokens of a text, or of two. What a text begins with here counts as the beginning of a word.
    pub fn around(&self, text: Part, pair: Option<Part>) -> Encoded {
        let mut tokens = self.before.clone();
        let mut words = vec![true; tokens.len()];
        let mut add = |part: Part, after: &[u32]| {
            let start = tokens.len();
            tokens.extend(part.tokens.iter().chain(after));
            words.extend(part.words);
            words.resize(tokens.len(), true);
            words[start..].iter_mut().take(1).for_each(|begins| *begins = true);
            start
        };
        let second = pair.map(|pair| {
            add(text, &self.between);
            add(pair, &self.after)
        });
        if second.is_none() {
            add(text, &self.after);
        }
        let second = second.map(|second| u16::try_from(second).unwrap_or(u16::MAX));
        Encoded { tokens, words, second, truncated: false }
    }
}

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

    pub(super) fn frame(&self, is_pair: bool) -> &Frame {
        &self.frames[usize::from(is_pair)]
    }

    /// The sequences of a text, in order: one, unless it is cut into several.
    pub(super) fn pieces_with(&self, texts: Texts, memory: &mut Memory) -> Result<Vec<Encoded>> {
        match (self.cut, texts) {
            (Cut::Off, _) => Ok(vec![self.encode_with(texts, memory)?]),
            (Cut::Windows(stride), (text, None)) => {
                let (body, frame) = (self.body(text, memory)?, self.frame(false));
                let windows = self.windows(body.len(), self.room(false), stride);
                Ok(windows.into_iter().map(|at| frame.around(body.part(at), None)).collect())
            }
            (Cut::Windows(stride), (text, Some(pair))) => {
                self.pair_windows([text, pair], stride, memory)
            }
            (_, (_, Some(_))) => {
                let cure = "--stride makes windows of pairs, too";
                bail!(usage("--pack is for single texts, and these are pairs").hint(cure))
            }
            (Cut::Chunks, (text, None)) => Ok(self.chunks(&self.body(text, memory)?)),
            (Cut::Whole, (text, None)) => {
                let Body { tokens, words } = self.body(text, memory)?;
                Ok(vec![Encoded { tokens, words, second: None, truncated: false }])
            }
        }
    }

    /// One sequence; where a length is set, what is longer is cut off.
    pub(super) fn encode_with(&self, (text, pair): Texts, memory: &mut Memory) -> Result<Encoded> {
        let text = self.body(text, memory)?;
        let pair = pair.map(|pair| self.body(pair, memory)).transpose()?;
        let (n1, n2) = (text.len(), pair.as_ref().map_or(0, Body::len));
        let room = self.length.map_or(n1 + n2, |_| self.room(pair.is_some()));
        let (kept1, kept2) = longest_first(n1, n2, room);
        let text = text.part(self.kept(n1, kept1));
        let pair = pair.as_ref().map(|pair| pair.part(self.kept(n2, kept2)));
        let truncated = n1 + n2 > room;
        Ok(Encoded { truncated, ..self.frame(pair.is_some()).around(text, pair) })
    }

    /// A text whole, without special tokens.
    fn body(&self, text: &str, memory: &mut Memory) -> Result<Body> {
        self.encoder.body(&self.inner, text, memory)
    }

    /// Which of `len` tokens stay if so many do.
    fn kept(&self, len: usize, kept: usize) -> Range<usize> {
        match self.direction {
            TruncationDirection::Right => 0..kept,
            TruncationDirection::Left => len - kept..len,
        }
    }

    /// Windows of at most `room` of `len` tokens, as transformers' `stride` makes them: from the side that is kept.
    fn windows(&self, len: usize, room: usize, stride: u32) -> Vec<Range<usize>> {
        let step = room.saturating_sub(stride as usize);
        let (mut windows, mut start) = (Vec::new(), 0);
        loop {
            let end = len.min(start + room);
            windows.push(start..end);
            if end == len {
                break;
            }
            start += step;
        }
        let turned = |window: Range<usize>| len - window.end..len - window.start;
        match self.direction {
            TruncationDirection::Right => windows,
            TruncationDirection::Left => windows.into_iter().map(turned).collect(),
        }
    }

    /// Windows of the longer text, the other beside each. Where both are long, the other is cut, so that a window always
    /// goes on by half of what the stride leaves.
    fn pair_windows(
        &self,
        texts: [&str; 2],
        stride: u32,
        memory: &mut Memory,
    ) -> Result<Vec<Encoded>> {
        let (room, frame) = (self.room(true), self.frame(true));
        self.check_stride(stride, room)?;
        let (text, pair) = (self.body(texts[0], memory)?, self.body(texts[1], memory)?);
        let first_is_longer = text.len() > pair.len();
        let (long, short) = if first_is_longer { (text, pair) } else { (pair, text) };
        let most = (room - stride as usize) / 2;
        let truncated = long.len() + short.len() > room && short.len() > most;
        let kept = if truncated { most } else { short.len() };
        let short = short.part(self.kept(short.len(), kept));
        let beside = |window| {
            let window = long.part(window);
            let (a, b) = if first_is_longer { (window, short) } else { (short, window) };
            Encoded { truncated, ..frame.around(a, Some(b)) }
        };
        let windows = self.windows(long.len(), room - kept, stride);
        Ok(windows.into_iter().map(beside).collect())
    }

    fn chunks(&self, body: &Body) -> Vec<Encoded> {
        let room = self.room(false);
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < body.len() || chunks.is_empty() {
            let end = match fitting(&body.words[at..], room) {
                0 if at < body.len() => at + room,
                fitting => at + fitting,
            };
            chunks.push(self.frame(false).around(body.part(at..end), None));
            at = end;
        }
        chunks
    }
}

/// How many tokens of two texts stay where `room` is for: of the longer as many as the shorter leaves, of both half
/// where both are long; as `longest_first` of the tokenizers library divides it.
fn longest_first(n1: usize, n2: usize, room: usize) -> (usize, usize) {
    if n1 + n2 <= room {
        return (n1, n2);
    }
    let (less, half) = (n1.min(n2), room / 2);
    let more = room - less.min(room);
    match (less > half, n1 > n2) {
        (true, false) => (half, half + room % 2),
        (true, true) => (half + room % 2, half),
        (false, false) => (less, more),
        (false, true) => (more, less),
    }
}

/// How many tokens from the front make whole words and fit into `room`; `words` says which begin one.
pub fn fitting(words: &[bool], room: usize) -> usize {
    match words.len() <= room {
        true => words.len(),
        false => (0..=room).rev().find(|&end| end == 0 || words[end]).unwrap_or(0),
    }
}
