//! The words of texts, as a tokenizer divides them, and which of them it would be worth to know whole.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail};
use rayon::prelude::*;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::{
    Decoder, ModelWrapper, NormalizedString, Normalizer, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

use super::{CHUNK, Tokenizer, failed};

/// A word that occurs more rarely is not proposed: its embedding would hardly be trained.
const RAREST: u64 = 2;

/// How a vocabulary grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// WordPiece looks for the longest token first, so a word in the vocabulary is found.
    Vocabulary,
    /// Byte-level BPE gets to a token by merges alone; a word is added beside the vocabulary.
    Added,
}

impl Growth {
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let split = tokenizer.inner.get_pre_tokenizer();
        match tokenizer.inner.get_model() {
            ModelWrapper::WordPiece(_) => Ok(Growth::Vocabulary),
            ModelWrapper::BPE(_) if matches!(split, Some(PreTokenizerWrapper::ByteLevel(_))) => {
                Ok(Growth::Added)
            }
            _ => bail!("words are added to WordPiece and byte-level BPE; it is neither"),
        }
    }

    fn is_word(self, text: &str) -> bool {
        let mut letters = text.chars();
        text.chars().count() > 1
            && match self {
                Growth::Vocabulary => {
                    text.chars().all(char::is_alphanumeric) && letters.any(char::is_alphabetic)
                }
                Growth::Added => letters.all(char::is_alphabetic),
            }
    }
}

/// A word as it stands in a text, after normalisation, perhaps with the space before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Spelling {
    text: String,
    /// Whether an added token with `single_word` is found here: no letter, digit or underscore touches it.
    stands_alone: bool,
}

/// Counted words.
pub struct Words {
    growth: Growth,
    counts: HashMap<Spelling, u64>,
}

/// A word to add.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub word: String,
    pub count: u64,
    /// What it is made of so far, in its most frequent spelling.
    pub pieces: Vec<u32>,
    saved: u64,
}

impl Words {
    pub fn new(growth: Growth) -> Self {
        Self { growth, counts: HashMap::new() }
    }

    /// Counts the words of texts on all threads.
    pub fn add(&mut self, tokenizer: &Tokenizer, texts: &[String]) -> Result<()> {
        let growth = self.growth;
        let counted =
            texts.par_iter().with_min_len(CHUNK).try_fold(HashMap::new, |mut counts, text| {
                for spelling in spellings(tokenizer, growth, text)? {
                    *counts.entry(spelling).or_insert(0) += 1;
                }
                anyhow::Ok(counts)
            });
        for counts in counted.collect::<Result<Vec<HashMap<Spelling, u64>>>>()? {
            counts.into_iter().for_each(|(word, n)| *self.counts.entry(word).or_default() += n);
        }
        Ok(())
    }

    /// Words and tokens of all texts, as `tokenizer` encodes them.
    pub fn measure(&self, tokenizer: &Tokenizer) -> Result<(u64, u64)> {
        let all: Vec<(&Spelling, &u64)> = self.counts.iter().collect();
        let tokens = |(spelling, count): &(&Spelling, &u64)| {
            Ok(*count * tokenizer.pieces_of(&spelling.text)?.len() as u64)
        };
        let tokens: u64 = all.par_iter().map(tokens).sum::<Result<u64>>()?;
        Ok((self.counts.values().sum(), tokens))
    }

    /// The `most` words that would save the most tokens in all texts, each being one; of equals the first by letters.
    pub fn propose(&self, tokenizer: &Tokenizer, most: usize) -> Result<Vec<Proposal>> {
        let mut all: Vec<(&Spelling, u64)> = self.counts.iter().map(|(s, &n)| (s, n)).collect();
        all.retain(|(s, _)| s.stands_alone && self.growth.is_word(bare(&s.text)));
        // The most frequent spelling first.
        all.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        let pieces: Vec<Vec<u32>> = all
            .par_iter()
            .map(|(spelling, _)| tokenizer.pieces_of(&spelling.text))
            .collect::<Result<_>>()?;
        let mut words: BTreeMap<&str, Proposal> = BTreeMap::new();
        for ((spelling, count), pieces) in all.into_iter().zip(pieces) {
            let word = bare(&spelling.text);
            let saved = count * (pieces.len() as u64).saturating_sub(1);
            let known = words.entry(word).or_insert_with(|| Proposal {
                word: word.to_owned(),
                count: 0,
                pieces,
                saved: 0,
            });
            known.count += count;
            known.saved += saved;
        }
        // A vocabulary of merges may have the letters of a word without its space; an added token would get their id.
        let is_new = |word: &str| tokenizer.inner.token_to_id(word).is_none();
        let mut words: Vec<Proposal> = words
            .into_values()
            .filter(|p| p.saved > 0 && p.pieces.len() > 1 && p.count >= RAREST && is_new(&p.word))
            .collect();
        words.sort_by_key(|proposal| std::cmp::Reverse(proposal.saved));
        words.truncate(most);
        Ok(words)
    }
}

impl Tokenizer {
    fn pieces_of(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode(text, false).map_err(failed)?.get_ids().to_vec())
    }
}

/// A spelling without the space before it.
fn bare(text: &str) -> &str {
    text.strip_prefix(' ').unwrap_or(text)
}

fn spellings(tokenizer: &Tokenizer, growth: Growth, text: &str) -> Result<Vec<Spelling>> {
    let pieces = pieces(tokenizer, growth, text).map_err(failed)?;
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let alone = |i: usize| {
        let before = i > 0 && !pieces[i].starts_with(' ') && in_word(pieces[i - 1].chars().last());
        let after = pieces.get(i + 1).is_some_and(|next| in_word(next.chars().next()));
        growth == Growth::Vocabulary || !(before || after)
    };
    let alone: Vec<bool> = (0..pieces.len()).map(alone).collect();
    let pieces = pieces.into_iter().zip(alone);
    Ok(pieces.map(|(text, stands_alone)| Spelling { text, stands_alone }).collect())
}

/// What the tokenizer's model is given of a text, as text.
fn pieces(tokenizer: &Tokenizer, growth: Growth, text: &str) -> tokenizers::Result<Vec<String>> {
    let mut text = NormalizedString::from(text);
    if let Some(normalizer) = tokenizer.inner.get_normalizer() {
        normalizer.normalize(&mut text)?;
    }
    let mut text = PreTokenizedString::from(text);
    if let Some(split) = tokenizer.inner.get_pre_tokenizer() {
        split.pre_tokenize(&mut text)?;
    }
    let pieces = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let pieces = pieces.into_iter().map(|(piece, ..)| piece.to_owned());
    match growth {
        Growth::Vocabulary => Ok(pieces.collect()),
        Growth::Added => pieces.map(|piece| ByteLevel::default().decode(vec![piece])).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Kind, train};

    fn tiny(kind: Kind) -> (tempfile::TempDir, Tokenizer) {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["the cat sat on the mat", "cats and dogs in camomat"].repeat(20);
        train(kind, 280, texts.into_iter().map(|text| Ok(text.to_owned())), dir.path()).unwrap();
        let tokenizer = Tokenizer::open(dir.path()).unwrap();
        (dir, tokenizer)
    }

    fn counted(tokenizer: &Tokenizer, texts: &[&str]) -> Words {
        let mut words = Words::new(Growth::of(tokenizer).unwrap());
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        words.add(tokenizer, &texts).unwrap();
        words
    }

    const TEXTS: [&str; 3] =
        ["the dogma, dogma of catmat", "dogma_x dogma2 catmat's  the 1234 x1", "Zzz catmat catmat"];

    #[test]
    fn tokens_are_those_of_the_texts() {
        for kind in [Kind::Bpe, Kind::Wordpiece] {
            let (_dir, tokenizer) = tiny(kind);
            let whole = TEXTS.map(|text| tokenizer.pieces_of(text).unwrap().len() as u64);
            let (_, tokens) = counted(&tokenizer, &TEXTS).measure(&tokenizer).unwrap();
            assert_eq!(tokens, whole.iter().sum::<u64>());
        }
    }

    #[test]
    fn words_that_save_most_come_first() {
        for (kind, dogma) in [(Kind::Bpe, 2), (Kind::Wordpiece, 3)] {
            let (_dir, tokenizer) = tiny(kind);
            let words = counted(&tokenizer, &TEXTS).propose(&tokenizer, 10).unwrap();
            let found: BTreeMap<&str, u64> = words.iter().map(|p| (&p.word[..], p.count)).collect();
            assert_eq!(found, [("catmat", 4), ("dogma", dogma)].into(), "{kind:?}");
            let saved = |p: &Proposal| p.count * (p.pieces.len() as u64 - 1);
            assert!(saved(&words[0]) >= saved(&words[1]) && saved(&words[1]) > 0, "{kind:?}");
        }
    }
}
