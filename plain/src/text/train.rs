//! Training a tokenizer, written as transformers writes one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    AddedToken, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, Tokenizer, Trainer, decoders,
};

use super::beside::Beside;
use super::failed;
use crate::flags::fault;

const LONGEST: u32 = 512;
const CONTINUED: &str = "##";

/// What kind of tokenizer to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Byte-level BPE in RoBERTa's layout: any text can be written, case is kept
    Bpe,
    /// WordPiece in BERT's uncased layout
    Wordpiece,
}

impl Kind {
    /// Special tokens, their ids being their places; the last is the mask.
    fn special(self) -> [&'static str; 5] {
        match self {
            Kind::Bpe => ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            Kind::Wordpiece => ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        }
    }

    fn added(self) -> Vec<AddedToken> {
        let token = |name: &str| AddedToken::from(name, true).lstrip(name == "<mask>");
        self.special().map(token).to_vec()
    }
}

/// Trains on `texts` and writes the files of a tokenizer with at most `size` tokens into `dir`. The bytes written
/// depend on the texts alone. Returns how many tokens there are. Fails, writing nothing, if a text fails, if no text has
/// a word, or if the letters and special tokens are more than `size`.
pub fn train(
    kind: Kind,
    size: usize,
    texts: impl Iterator<Item = Result<String>> + Send,
    dir: &Path,
) -> Result<usize> {
    let (mut failure, mut blank) = (None, true);
    let texts = texts.map_while(|text| text.map_err(|error| failure = Some(error)).ok());
    let texts = texts.inspect(|text| blank &= text.trim().is_empty());
    let (mut tokenizer, vocab) = match kind {
        Kind::Bpe => byte_level(size, texts)?,
        Kind::Wordpiece => word_pieces(size, texts)?,
    };
    failure.map_or(Ok(()), Err)?;
    ensure!(!blank, fault("there is no word to train a tokenizer on", "give it more text"));
    ensure!(
        vocab <= size,
        "special tokens and letters alone are {vocab} tokens, more than the {size} wanted"
    );
    tokenizer.add_special_tokens(&kind.added());
    write(kind, &tokenizer, dir)?;
    Ok(vocab)
}

/// Writes the files into `dir`, tokenizer.json last.
fn write(kind: Kind, tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    let mut files = Beside::new(dir)?;
    let whole: Value = serde_json::from_str(&tokenizer.to_string(false).map_err(failed)?)?;
    let saved = tokenizer.get_model().save(files.path(), None).map_err(failed);
    for saved in saved.with_context(|| dir.display().to_string())? {
        files.file(&saved.file_name().unwrap_or_default().to_string_lossy());
    }
    for (name, value) in [
        ("special_tokens_map.json", special_tokens_map(kind)),
        ("tokenizer_config.json", tokenizer_config(kind)),
        ("tokenizer.json", whole),
    ] {
        files.write_json(name, &value)?;
    }
    files.finish()
}

fn byte_level(
    size: usize,
    texts: impl Iterator<Item = String> + Send,
) -> Result<(Tokenizer, usize)> {
    let special = Kind::Bpe.special();
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let split = ByteLevel::default().add_prefix_space(false);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .show_progress(false)
        .special_tokens(Kind::Bpe.added())
        .initial_alphabet(alphabet)
        .build();
    trainer.feed(texts, |text| pieces(text, None::<&BertNormalizer>, &split)).map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    let vocab = model.get_vocab_size();
    let mut tokenizer = Tokenizer::new(model);
    let (sep, cls) = ((special[2].to_owned(), 2), (special[0].to_owned(), 0));
    tokenizer
        .with_pre_tokenizer(Some(split))
        .with_decoder(Some(ByteLevel::default()))
        .with_post_processor(Some(RobertaProcessing::new(sep, cls).add_prefix_space(false)));
    Ok((tokenizer, vocab))
}

/// The letters are given to the trainer in order, as it would number them in that of a hash table.
fn word_pieces(
    size: usize,
    texts: impl Iterator<Item = String> + Send,
) -> Result<(Tokenizer, usize)> {
    let normalizer = BertNormalizer::new(true, true, None, true);
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for text in texts {
        let pieces = pieces(&text, Some(&normalizer), &BertPreTokenizer).map_err(failed)?;
        pieces.into_iter().for_each(|piece| *words.entry(piece).or_default() += 1);
    }
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .show_progress(false)
        .special_tokens(letters(words.keys()))
        .continuing_subword_prefix(CONTINUED.into())
        .build();
    let counts = words.into_iter().map(|(word, count)| (word.as_str().into(), count)).collect();
    let mut model = BPE::default();
    trainer.do_train(&counts, &mut model).map_err(failed)?;
    let vocab = model.get_vocab_size();
    let model = WordPiece::from_bpe(&model);
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizer))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_decoder(Some(decoders::wordpiece::WordPiece::default()))
        .with_post_processor(Some(BertProcessing::new(("[SEP]".into(), 3), ("[CLS]".into(), 2))));
    Ok((tokenizer, vocab))
}

/// The words of a text, as the trainer counts them.
fn pieces(
    text: &str,
    normalizer: Option<&BertNormalizer>,
    split: &impl PreTokenizer,
) -> tokenizers::Result<Vec<String>> {
    let mut text = NormalizedString::from(text);
    normalizer.map_or(Ok(()), |normalizer| normalizer.normalize(&mut text))?;
    let mut text = PreTokenizedString::from(text);
    split.pre_tokenize(&mut text)?;
    let pieces = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(pieces.into_iter().map(|(piece, ..)| piece.to_owned()).collect())
}

/// Special tokens, then the letters that begin words, then those that go on.
fn letters<'a>(words: impl Iterator<Item = &'a String> + Clone) -> Vec<AddedToken> {
    let all: BTreeSet<char> = words.clone().flat_map(|word| word.chars()).collect();
    let inner: BTreeSet<char> = words.flat_map(|word| word.chars().skip(1)).collect();
    let letters = all.iter().map(char::to_string);
    let inner = inner.iter().map(|letter| format!("{CONTINUED}{letter}"));
    let plain = letters.chain(inner).map(|letter| AddedToken::from(letter, false));
    Kind::Wordpiece.added().into_iter().chain(plain).collect()
}

/// Keys of the special tokens in the files, with their ids.
fn roles(kind: Kind) -> Vec<(&'static str, usize)> {
    match kind {
        Kind::Bpe => vec![
            ("bos_token", 0),
            ("cls_token", 0),
            ("eos_token", 2),
            ("mask_token", 4),
            ("pad_token", 1),
            ("sep_token", 2),
            ("unk_token", 3),
        ],
        Kind::Wordpiece => {
            vec![
                ("cls_token", 2),
                ("mask_token", 4),
                ("pad_token", 0),
                ("sep_token", 3),
                ("unk_token", 1),
            ]
        }
    }
}

/// A token as transformers writes it.
pub fn described(token: &AddedToken) -> Value {
    json!({"content": token.content, "lstrip": token.lstrip, "normalized": token.normalized,
           "rstrip": token.rstrip, "single_word": token.single_word, "special": token.special})
}

fn special_tokens_map(kind: Kind) -> Value {
    let added = kind.added();
    roles(kind)
        .into_iter()
        .map(|(key, id)| (key.to_owned(), described(&added[id])))
        .collect::<Value>()
}

fn tokenizer_config(kind: Kind) -> Value {
    let added = kind.added();
    let mut config = match kind {
        Kind::Bpe => json!({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": false,
                            "trim_offsets": true, "errors": "replace"}),
        Kind::Wordpiece => json!({"tokenizer_class": "BertTokenizer", "do_lower_case": true,
                                  "strip_accents": null, "tokenize_chinese_chars": true}),
    };
    config["model_max_length"] = json!(LONGEST);
    config["clean_up_tokenization_spaces"] = json!(false);
    config["added_tokens_decoder"] =
        added.iter().enumerate().map(|(id, token)| (id.to_string(), described(token))).collect();
    roles(kind).into_iter().for_each(|(key, id)| config[key] = json!(added[id].content));
    config
}
