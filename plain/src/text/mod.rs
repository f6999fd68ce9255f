//! Documents to ids, as transformers' fast tokenizers do it; training a tokenizer.

mod beside;
mod body;
mod config;
mod count;
mod cut;
mod division;
mod extend;
mod pack;
mod rows;
mod train;
mod words;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::TruncationDirection;

use crate::flags::{fault, usage};
use crate::hub;
use crate::shard::{Header, Sequence, Special};
use body::{Encoder, Memory};
use config::Config;
pub use count::Count;
use cut::Frame;
pub use cut::{Cut, Length, Packing};
pub use extend::Extension;
pub use pack::Packer;
pub use train::{Kind, train};

/// Sequences longer than this are of no use to any encoder we know, unless asked for.
const LONGEST: u32 = 512;
/// The files of a tokenizer, as transformers 4 writes them.
pub const FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];
/// Texts a task of the thread pool takes at least.
const CHUNK: usize = 64;

/// A tokenizer as a model directory describes it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    encoder: Encoder,
    digest: String,
    vocab_size: u32,
    special: Special,
    longest: Option<u32>,
    direction: TruncationDirection,
    /// The most tokens of a sequence, if set.
    length: Option<u32>,
    cut: Cut,
    /// The special tokens around a text, and around a pair.
    frames: [Frame; 2],
}

/// A text, or a pair of texts, as token ids with special tokens around.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub tokens: Vec<u32>,
    /// `[tokens]`: whether the token begins a word; special tokens do.
    pub words: Vec<bool>,
    /// Pairs: where the second text begins.
    pub second: Option<u16>,
    /// Whether tokens were cut off.
    pub truncated: bool,
}

impl Encoded {
    /// A sequence of a shard, for row `row` of the source.
    pub fn into_sequence(self, label: Option<String>, row: u64) -> Sequence {
        let Self { tokens, words, second, .. } = self;
        Sequence { tokens, words, second, label, row }
    }
}

/// The tokenizer of a shard where none is named.
const TOKENIZER: &str = "distilroberta-base";

/// Which tokenizer, how long its sequences may be, and what becomes of longer texts.
#[derive(Debug, Clone, clap::Args)]
pub struct Encoding {
    /// Directory of a model, its tokenizer.json, or a model of the hub, org/name[@revision]
    /// [default, where a shard is written: distilroberta-base]
    #[arg(long, value_name = "MODEL")]
    pub tokenizer: Option<PathBuf>,

    #[command(flatten)]
    pub length: Length,

    #[command(flatten)]
    pub packing: Packing,
}

impl Encoding {
    /// The same, its tokenizer a file of this machine.
    pub fn fetched(self) -> Result<Self> {
        let path = self.tokenizer.as_deref().unwrap_or(Path::new(TOKENIZER));
        Ok(Self { tokenizer: Some(Tokenizer::file(path)?), ..self })
    }

    /// Opens the tokenizer, set to cut what is too long as the flags say.
    pub fn open(&self) -> Result<Tokenizer> {
        let path = self.tokenizer.as_deref().unwrap_or(Path::new(TOKENIZER));
        let mut tokenizer = Tokenizer::open(path)?;
        let length = self.length.max_length.unwrap_or(tokenizer.max_length());
        tokenizer.cut(length, self.packing.cut(&self.length))?;
        Ok(tokenizer)
    }
}

/// What to encode: a text, and the second text of a pair.
pub type Texts<'a> = (&'a str, Option<&'a str>);

impl Tokenizer {
    /// Opens `tokenizer.json`, given itself, its directory or its name on the hub, with the settings of the files
    /// beside it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Self::file(path)?;
        Self::read(&file).with_context(|| file.display().to_string())
    }

    /// The tokenizer.json that `path` means, downloaded if need be.
    fn file(path: &Path) -> Result<PathBuf> {
        let path = hub::tokenizer(path)?;
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path };
        let cure = "name a directory that has it, or a model of the hub (org/name)";
        match file.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(fault(error.to_string(), cure)).with_context(|| file.display().to_string())
            }
            _ => Ok(file),
        }
    }

    fn read(file: &PathBuf) -> Result<Self> {
        let bytes = std::fs::read(file)?;
        let config = Config::beside(file)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| anyhow!("not a tokenizer: {error}"))?;
        let direction = config.direction(inner.get_truncation());
        config.apply(&mut inner)?;
        inner.with_padding(None).with_truncation(None).map_err(failed)?;
        let (special, encoder) = (config.special(&inner)?, Encoder::new(&inner)?);
        let frames = [Frame::of(&inner, false)?, Frame::of(&inner, true)?];
        let vocab = inner.get_vocab(true);
        let largest = vocab.values().max().map_or(0, |id| id + 1);
        Ok(Self {
            digest: format!("{:x}", Sha256::digest(&bytes)),
            vocab_size: largest.max(vocab.len() as u32),
            inner,
            encoder,
            special,
            longest: config.longest(),
            direction,
            length: None,
            cut: Cut::Off,
            frames,
        })
    }

    /// Cuts what is longer than `length` tokens, special tokens included; of a pair the longer text first.
    pub fn truncate(&mut self, length: u32) -> Result<()> {
        let (least, most) = (self.special_around(true) + 1, u32::from(u16::MAX));
        ensure!(
            (least..=most).contains(&length),
            usage(format!("--max-length {length}: between {least} and {most}"))
        );
        self.length = Some(length);
        Ok(())
    }

    /// The same tokenizer, cutting nothing off.
    pub fn whole(self) -> Self {
        Self { length: None, cut: Cut::Off, ..self }
    }

    fn special_around(&self, is_pair: bool) -> u32 {
        self.frame(is_pair).len() as u32
    }

    /// The most tokens a sequence may have: as set by `truncate`, else the model's own limit, at most 512.
    pub fn max_length(&self) -> u32 {
        self.length.unwrap_or(self.longest.unwrap_or(LONGEST).min(LONGEST))
    }

    /// The header of a shard of what this tokenizer encodes.
    pub fn header(&self, source: serde_json::Value, command: String) -> Header {
        Header {
            tokenizer: self.digest.clone(),
            vocab_size: self.vocab_size(),
            special: self.special.clone(),
            max_length: self.max_length(),
            stride: if let Cut::Windows(stride) = self.cut { Some(stride) } else { None },
            join: self.cut == Cut::Whole,
            source,
            command,
        }
    }

    /// sha256 of tokenizer.json, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn special(&self) -> &Special {
        &self.special
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The text of some tokens, special ones left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(failed)
    }

    /// The text of some tokens with mask and unknown tokens shown; other special ones are left out.
    pub fn decode_masked(&self, tokens: &[u32]) -> Result<String> {
        let special = &self.special;
        let shown = |id: &u32| {
            !special.all.contains(id) || [special.mask, special.unk].contains(&Some(*id))
        };
        let shown: Vec<u32> = tokens.iter().copied().filter(shown).collect();
        self.inner.decode(&shown, false).map_err(failed)
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Encodes, cut off where that is set, not otherwise cut.
    pub fn encode(&self, texts: Texts) -> Result<Encoded> {
        self.encoder.with(|memory| self.encode_with(texts, memory))
    }

    /// The sequences of a text, in order: one, unless it is cut into several.
    pub fn pieces(&self, texts: Texts) -> Result<Vec<Encoded>> {
        self.encoder.with(|memory| self.pieces_with(texts, memory))
    }

    /// The pieces of each text, on all threads, in order.
    pub fn pieces_batch(&self, texts: &[Texts]) -> Result<Vec<Vec<Encoded>>> {
        self.on_all_threads(texts, |texts, memory| self.pieces_with(texts, memory))
    }

    /// Encodes on all threads, in order.
    pub fn encode_batch(&self, texts: &[Texts]) -> Result<Vec<Encoded>> {
        self.on_all_threads(texts, |texts, memory| self.encode_with(texts, memory))
    }

    fn on_all_threads<T: Send>(
        &self,
        texts: &[Texts],
        work: impl Fn(Texts, &mut Memory) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let some = |some: &[Texts]| -> Result<Vec<T>> {
            self.encoder.with(|memory| some.iter().map(|texts| work(*texts, memory)).collect())
        };
        let all: Vec<Vec<T>> = texts.par_chunks(CHUNK).map(some).collect::<Result<_>>()?;
        Ok(all.into_iter().flatten().collect())
    }
}

fn failed(error: tokenizers::Error) -> anyhow::Error {
    anyhow!("tokenizer: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny(kind: Kind) -> (tempfile::TempDir, Tokenizer) {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["the cat sat on the mat", "cats and dogs, mats and logs"].repeat(20);
        train(kind, 300, texts.into_iter().map(|text| Ok(text.to_owned())), dir.path()).unwrap();
        let tokenizer = Tokenizer::open(dir.path()).unwrap();
        (dir, tokenizer)
    }

    #[test]
    fn pairs_words_and_truncation() {
        let (_dir, mut tokenizer) = tiny(Kind::Bpe);
        let whole = tokenizer.encode(("the cat", Some("dogs"))).unwrap();
        let second = whole.second.unwrap() as usize;
        assert_eq!(whole.tokens[second - 2..second], [2, 2]);
        assert_eq!(tokenizer.decode(&whole.tokens[second..]).unwrap(), "dogs");
        assert!(whole.words[1] && whole.words[second] && !whole.truncated);
        let empty = tokenizer.encode(("", Some(""))).unwrap();
        assert_eq!((empty.tokens, empty.second), (vec![0, 2, 2, 2], Some(3)));
        tokenizer.truncate(6).unwrap();
        let cut = tokenizer.encode(("the cat sat", Some("cats and dogs"))).unwrap();
        assert_eq!((cut.tokens.len(), cut.truncated), (6, true));
        assert!(tokenizer.truncate(4).is_err());
    }

    #[test]
    fn training_gives_the_same_bytes() {
        for kind in [Kind::Bpe, Kind::Wordpiece] {
            let files = ["tokenizer.json", "tokenizer_config.json"];
            let read = |dir: &Path| files.map(|file| std::fs::read(dir.join(file)).unwrap());
            let (a, _) = tiny(kind);
            let (b, _) = tiny(kind);
            assert_eq!(read(a.path()), read(b.path()));
        }
    }

    #[test]
    fn wordpiece_marks_words() {
        let (_dir, tokenizer) = tiny(Kind::Wordpiece);
        let encoded = tokenizer.encode(("The catdog", None)).unwrap();
        let pieces: Vec<String> =
            encoded.tokens.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
        assert_eq!((&pieces[0][..], &pieces[1][..]), ("[CLS]", "the"));
        for (piece, begins) in pieces.iter().zip(encoded.words) {
            assert_eq!(begins, !piece.starts_with("##"), "{piece}");
        }
    }
}
