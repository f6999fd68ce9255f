//! A text as tokens, before anything is put around it or cut off it. The library is asked for each word once; what it
//! said is remembered, so that a thread encodes a common word by one look.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use aho_corasick::AhoCorasick;
use anyhow::{Result, anyhow};
use dashmap::DashMap;
use tokenizers::{Model, Tokenizer};

use super::division::Division;
use super::failed;

/// Words and tokens a thread remembers, and words it adds to what all know, beyond which all is forgotten.
const REMEMBERED: usize = 1 << 20;
/// Bytes of the longest word or chunk that is remembered.
const LONGEST: usize = 64;
/// In what is remembered: the token begins a word.
const BEGINS: u32 = 1 << 31;

/// Tokens of a text, without special ones around them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    pub tokens: Vec<u32>,
    /// `[tokens]`: whether the token begins a word.
    pub words: Vec<bool>,
}

/// Some tokens of a text that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    pub tokens: &'a [u32],
    pub words: &'a [bool],
}

impl Body {
    fn with_room(tokens: usize) -> Self {
        Self { tokens: Vec::with_capacity(tokens), words: Vec::with_capacity(tokens) }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn part(&self, range: Range<usize>) -> Part<'_> {
        Part { tokens: &self.tokens[range.clone()], words: &self.words[range] }
    }

    fn push(&mut self, token: u32, begins: bool) {
        self.tokens.push(token);
        self.words.push(begins);
    }

    fn extend(&mut self, marked: &[u32]) {
        marked.iter().for_each(|token| self.push(token & !BEGINS, token & BEGINS != 0));
    }
}

impl Part<'_> {
    /// The tokens, with `BEGINS` where that holds.
    fn marked(&self) -> impl Iterator<Item = u32> {
        let marked = self.tokens.iter().zip(self.words);
        marked.map(|(token, begins)| token | if *begins { BEGINS } else { 0 })
    }
}

/// Encodes with a tokenizer, as it would.
pub struct Encoder {
    division: Option<Division>,
    /// Finds tokens that were added to the vocabulary: what they do to their neighbours is the library's to say.
    added: Option<AhoCorasick>,
    shared: Shared,
    memories: Mutex<Vec<Memory>>,
}

/// What any thread has asked for.
#[derive(Default)]
struct Shared {
    /// The tokens of words, each with `BEGINS` where that holds.
    words: DashMap<Box<str>, Box<[u32]>, foldhash::fast::RandomState>,
    /// How many went in since it was empty.
    asked: AtomicUsize,
}

impl Shared {
    fn tell(&self, text: &str, part: Part) {
        if self.asked.fetch_add(1, Ordering::Relaxed) == REMEMBERED {
            self.asked.store(0, Ordering::Relaxed);
            self.words.clear();
        }
        if text.len() <= LONGEST {
            self.words.insert(text.into(), part.marked().collect());
        }
    }
}

/// Tokens of short words a thread has met.
#[derive(Default)]
pub struct Memory {
    /// Words with their letters in the table itself, so that a look is one look.
    words: HashMap<u128, Known, foldhash::fast::RandomState>,
    /// Of words of several tokens.
    tokens: Vec<u32>,
}

enum Known {
    Token(u32),
    /// Where in `Memory::tokens` they are.
    Place(Range<u32>),
}

/// The bytes of a word and their number, if that fits.
fn short(word: &str) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes[15] = word.len() as u8;
    bytes[..15].get_mut(..word.len())?.copy_from_slice(word.as_bytes());
    Some(u128::from_le_bytes(bytes))
}

impl Encoder {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let added = tokenizer.get_added_tokens_decoder();
        let added: Vec<&str> = added.values().map(|token| token.content.as_str()).collect();
        let find = (!added.is_empty()).then(|| AhoCorasick::new(&added));
        let added = find.transpose().map_err(|error| anyhow!("its added tokens: {error}"))?;
        let division = Division::of(tokenizer);
        Ok(Self { division, added, shared: Shared::default(), memories: Mutex::default() })
    }

    /// Runs `work` with what some thread remembers, if any does.
    pub fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        let memories = || self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = memories().pop().unwrap_or_default();
        let done = work(&mut memory);
        memories().push(memory);
        done
    }

    pub fn body(&self, tokenizer: &Tokenizer, text: &str, memory: &mut Memory) -> Result<Body> {
        let mut body = Body::with_room(text.len() / 4);
        let added = || self.added.as_ref().is_some_and(|added| added.is_match(text));
        let Some(division) = self.division.filter(|_| !added()) else {
            ask(tokenizer, text, &mut body)?;
            return Ok(body);
        };
        for chunk in division.chunks(text) {
            let chunk = division.trimmed(chunk);
            if division.is_plain(chunk) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let (word, after) = rest.split_at(division.word(rest.as_bytes()));
                    let ask = |body: &mut Body| ask_model(tokenizer, division, word, body);
                    memory.recall(&self.shared, word, &mut body, ask)?;
                    rest = after;
                }
            } else {
                let ask = |body: &mut Body| ask(tokenizer, chunk, body);
                memory.recall(&self.shared, chunk, &mut body, ask)?;
            }
        }
        Ok(body)
    }
}

impl Memory {
    /// Adds the tokens of `text` to `body`; `ask` adds them where no thread knows them.
    fn recall(
        &mut self,
        shared: &Shared,
        text: &str,
        body: &mut Body,
        ask: impl FnOnce(&mut Body) -> Result<()>,
    ) -> Result<()> {
        let word = short(text);
        if let Some(known) = word.and_then(|word| self.words.get(&word)) {
            match known {
                Known::Token(token) => body.extend(&[*token]),
                Known::Place(Range { start, end }) => {
                    body.extend(&self.tokens[*start as usize..*end as usize]);
                }
            }
            return Ok(());
        }
        let before = body.len();
        match shared.words.get(text) {
            Some(known) => body.extend(&known),
            None => {
                ask(body)?;
                shared.tell(text, body.part(before..body.len()));
            }
        }
        word.into_iter().for_each(|word| self.remember(word, body.part(before..body.len())));
        Ok(())
    }

    fn remember(&mut self, word: u128, part: Part) {
        if self.words.len() + self.tokens.len() > REMEMBERED {
            (self.words, self.tokens) = Default::default();
        }
        let start = self.tokens.len() as u32;
        self.tokens.extend(part.marked());
        let known = match self.tokens[start as usize..] {
            [token] => {
                self.tokens.pop();
                Known::Token(token)
            }
            _ => Known::Place(start..self.tokens.len() as u32),
        };
        self.words.insert(word, known);
    }
}

/// Adds what the library makes of a text.
fn ask(tokenizer: &Tokenizer, text: &str, body: &mut Body) -> Result<()> {
    let encoding = tokenizer.encode(text, false).map_err(failed)?;
    let words = encoding.get_word_ids();
    for (t, token) in encoding.get_ids().iter().enumerate() {
        body.push(*token, t == 0 || words[t].is_none() || words[t] != words[t - 1]);
    }
    Ok(())
}

/// Adds what the model makes of a word of printable ASCII.
fn ask_model(tokenizer: &Tokenizer, division: Division, word: &str, body: &mut Body) -> Result<()> {
    let word = match division {
        Division::Bert { lowercase: true } => Cow::Owned(word.to_ascii_lowercase()),
        Division::Bert { lowercase: false } => Cow::Borrowed(word),
        // The letters that stand for bytes are those of ASCII itself, but for the space.
        Division::ByteLevel => Cow::Owned(word.replace(' ', "Ġ")),
    };
    let tokens = tokenizer.get_model().tokenize(&word).map_err(failed)?;
    tokens.iter().enumerate().for_each(|(t, token)| body.push(token.id, t == 0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Tokenizer, train};
    use super::*;
    use proptest::prelude::*;

    fn tiny(kind: Kind) -> Tokenizer {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["the cat's sat on the mat, it's 42!", "cats and dogs? we'll see"].repeat(20);
        train(kind, 320, texts.into_iter().map(|text| Ok(text.to_owned())), dir.path()).unwrap();
        Tokenizer::open(dir.path()).unwrap()
    }

    /// What English has, and all that could lead a division astray.
    fn texts() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            " ",
            " ",
            " ",
            "  ",
            "\t",
            "\n",
            "\r\n",
            "\u{b}",
            "\u{c}",
            "\u{a0}",
            "\u{3000}",
            "\u{200b}",
            "\0",
            "\u{7f}",
            "the",
            "Cat",
            "cats",
            "don't",
            "'s",
            "'S",
            "we'll",
            "'",
            "''ve",
            "!!",
            "?!'t",
            "42",
            "4a2",
            "a.b",
            "é",
            "e\u{301}",
            "\u{301}",
            "İ",
            "ß",
            "中文",
            "ﬁ",
            "😀",
            "[MASK]",
            "<mask>",
            "[UNK]",
            "<s>",
            "[",
            "MASK",
            "_",
            "<",
            ">",
            "http://a.b/c?d=e",
        ]);
        prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn words_by_themselves_give_what_the_text_gives(texts in prop::collection::vec(texts(), 1..4)) {
            for kind in [Kind::Bpe, Kind::Wordpiece] {
                let tokenizer = tiny_once(kind);
                prop_assert!(tokenizer.encoder.division.is_some());
                let mut memory = Memory::default();
                for text in texts.iter().chain(&texts) {
                    let mut whole = Body::default();
                    ask(&tokenizer.inner, text, &mut whole).unwrap();
                    let divided = tokenizer.encoder.body(&tokenizer.inner, text, &mut memory).unwrap();
                    prop_assert_eq!(divided, whole, "{:?}", text);
                }
            }
        }
    }

    fn tiny_once(kind: Kind) -> &'static Tokenizer {
        static TINY: [std::sync::OnceLock<Tokenizer>; 2] =
            [const { std::sync::OnceLock::new() }; 2];
        TINY[usize::from(kind == Kind::Bpe)].get_or_init(|| tiny(kind))
    }

    #[test]
    fn what_is_forgotten_is_asked_again() {
        let tokenizer = tiny(Kind::Bpe);
        let mut memory = Memory { tokens: vec![0; REMEMBERED + 1], ..Memory::default() };
        let shared = &tokenizer.encoder.shared;
        shared.words.insert("old".into(), Box::new([1]));
        shared.asked.store(REMEMBERED, Ordering::Relaxed);
        let mut body = || tokenizer.encoder.body(&tokenizer.inner, "the cat", &mut memory).unwrap();
        let first = body();
        assert!(!shared.words.contains_key("old") && shared.words.contains_key("the"));
        shared.words.clear();
        assert_eq!(body(), first);
        assert!(memory.tokens.len() < 10);
    }
}
