//! Domain words for a model: its tokenizer knows them whole, and its embeddings have a row for each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::beside::Beside;
use super::rows::{self, New};
use super::train::described;
use super::words::{Growth, Proposal, Words};
use super::{FILES, Tokenizer};
use crate::flags::{fault, usage};
use crate::shard::Manifest;

/// Texts counted at a time.
const BATCH: usize = 4096;

/// Words for a model, as flags.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Extension {
    /// Add words of the texts to this model, its tokenizer and its embeddings, into the directory -o, instead of writing
    /// a shard
    #[arg(long, value_name = "MODEL", requires_all = ["words", "output"],
        conflicts_with_all = ["tokenizer", "Length", "Packing"])]
    pub extend: Option<PathBuf>,

    /// How many words to add: those that save the most tokens
    #[arg(long, value_name = "N", requires = "extend", value_parser = crate::flags::count)]
    words: Option<u64>,
}

impl Extension {
    /// Writes the extended model into `dir`; says what was added.
    pub fn run(&self, texts: impl Iterator<Item = Result<String>>, dir: &Path) -> Result<String> {
        let model = self.extend.as_deref().unwrap_or(Path::new("."));
        let same =
            model.canonicalize().is_ok_and(|model| dir.canonicalize().is_ok_and(|d| d == model));
        ensure!(!same, usage(format!("-o {}: is the model itself", dir.display())));
        let named = || model.display().to_string();
        let base = Base::open(model)?;
        let growth = Growth::of(&base.tokenizer).with_context(named)?;
        let mut words = Words::new(growth);
        count(&mut words, &base.tokenizer, texts)?;
        let most = self.words.unwrap_or_default() as usize;
        let proposals = words.propose(&base.tokenizer, most)?;
        let nothing = || fault("no word of the texts would save a token", "give it more text");
        ensure!(!proposals.is_empty(), nothing());
        let extended = base.write(growth, &proposals, dir)?;
        let (all, before) = words.measure(&base.tokenizer)?;
        let (_, after) = words.measure(&extended)?;
        let ratio = |tokens: u64| tokens as f64 / all.max(1) as f64;
        Ok(format!(
            "{} words added to {} in {}: tokens per word {:.4} before, {:.4} after",
            proposals.len(),
            model.display(),
            dir.display(),
            ratio(before),
            ratio(after)
        ))
    }
}

fn count(
    words: &mut Words,
    tokenizer: &Tokenizer,
    texts: impl Iterator<Item = Result<String>>,
) -> Result<()> {
    let mut texts = texts.peekable();
    while texts.peek().is_some() {
        let batch: Vec<String> = texts.by_ref().take(BATCH).collect::<Result<_>>()?;
        words.add(tokenizer, &batch)?;
    }
    Ok(())
}

/// The model words are added to.
struct Base {
    dir: PathBuf,
    tokenizer: Tokenizer,
    config: Value,
    vocab: usize,
    weights: memmap2::Mmap,
}

impl Base {
    fn open(dir: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::open(dir)?;
        let config = read_json(&dir.join("config.json"))?;
        let weights = rows::map(dir)?;
        let named = || dir.join("config.json").display().to_string();
        let vocab = config["vocab_size"].as_u64().context("`vocab_size` is missing");
        let vocab = vocab.with_context(named)? as usize;
        ensure!(
            tokenizer.vocab_size() as usize <= vocab,
            "{}: its tokenizer has more tokens than the model",
            dir.display()
        );
        Ok(Self { dir: dir.to_owned(), tokenizer, config, vocab, weights })
    }

    /// Writes tokenizer, config and, last, weights; returns the new tokenizer.
    fn write(&self, growth: Growth, words: &[Proposal], dir: &Path) -> Result<Tokenizer> {
        let mut files = Beside::new(dir)?;
        let first = self.tokenizer.vocab_size();
        let ids: BTreeMap<u32, &str> = (first..).zip(words.iter().map(|p| &p.word[..])).collect();
        self.write_tokenizer(growth, &ids, &mut files)?;
        let extended = Tokenizer::open(files.path())?;
        for (id, word) in &ids {
            let found = extended.inner.encode(*word, false).map_err(|e| anyhow!("{e}"))?;
            ensure!(
                found.get_ids() == [*id],
                "{}: its tokenizer does not find {word:?} once it is added",
                self.dir.display()
            );
        }
        files.write("words.jsonl", self.list(&ids, words))?;
        // It has met the texts its base has.
        let met = self.dir.join(Manifest::FILE);
        if met.exists() {
            files.write(Manifest::FILE, fs::read(&met)?)?;
        }
        let size = self.vocab.max(first as usize + words.len());
        let mut config = self.config.clone();
        config["vocab_size"] = json!(size);
        files.write_json("config.json", &config)?;
        let new: Vec<New> = (first..).zip(words.iter().map(|p| p.pieces.clone())).collect();
        let from = || self.dir.join("model.safetensors").display().to_string();
        let to = files.file("model.safetensors");
        let grown = rows::grow(&self.weights, self.vocab, size, &new).with_context(from)?;
        grown.write(&to).with_context(|| files.named("model.safetensors"))?;
        files.finish()?;
        Ok(extended)
    }

    /// A line for each word: what it was made of, and how often it occurs.
    fn list(&self, ids: &BTreeMap<u32, &str>, words: &[Proposal]) -> String {
        let line = |(id, proposal): (&u32, &Proposal)| {
            let Proposal { word, count, pieces, .. } = proposal;
            let pieces: Vec<_> = pieces.iter().map(|&id| self.tokenizer.token(id)).collect();
            format!("{}\n", json!({"word": word, "id": id, "count": count, "pieces": pieces}))
        };
        ids.keys().zip(words).map(line).collect()
    }

    fn write_tokenizer(
        &self,
        growth: Growth,
        ids: &BTreeMap<u32, &str>,
        files: &mut Beside,
    ) -> Result<()> {
        for name in FILES {
            let path = self.dir.join(name);
            if !path.exists() {
                continue;
            }
            match (name, growth) {
                ("tokenizer.json", _) => {
                    let mut whole = read_json(&path)?;
                    add(&mut whole, growth, ids).with_context(|| path.display().to_string())?;
                    files.write_json(name, &whole)?;
                }
                ("vocab.txt", Growth::Vocabulary) => {
                    let text = fs::read_to_string(&path)?;
                    // Where the line is not the id, tokenizer.json alone can say it.
                    let first = ids.keys().next().copied().unwrap_or_default() as usize;
                    if text.lines().count() == first {
                        let lines = ids.values().map(|word| format!("{word}\n"));
                        files.write(
                            name,
                            text.trim_end().to_owned() + "\n" + &lines.collect::<String>(),
                        )?;
                    }
                }
                ("added_tokens.json", Growth::Added) => {
                    let mut listed = read_json(&path)?;
                    ids.iter().for_each(|(id, word)| listed[*word] = json!(id));
                    files.write_json(name, &listed)?;
                }
                ("tokenizer_config.json", Growth::Added) => {
                    let mut config = read_json(&path)?;
                    if let Some(listed) = config["added_tokens_decoder"].as_object_mut() {
                        listed.extend(
                            ids.iter().map(|(id, w)| (id.to_string(), described(&token(w)))),
                        );
                    }
                    files.write_json(name, &config)?;
                }
                _ => files.write(name, fs::read(&path)?)?,
            }
        }
        Ok(())
    }
}

/// An added token as a word: found only where nothing of another word touches it, and with the space before it, as
/// byte-level BPE has spaces at the front of words.
fn token(word: &str) -> AddedToken {
    AddedToken::from(word, false).single_word(true).lstrip(true)
}

/// Adds words to a tokenizer.json.
fn add(whole: &mut Value, growth: Growth, ids: &BTreeMap<u32, &str>) -> Result<()> {
    match growth {
        Growth::Vocabulary => {
            let vocab = whole["model"]["vocab"].as_object_mut();
            let vocab: &mut Map<String, Value> = vocab.context("it has no `vocab`")?;
            vocab.extend(ids.iter().map(|(id, word)| ((*word).to_owned(), json!(id))));
        }
        Growth::Added => {
            let added = whole["added_tokens"].as_array_mut();
            let added: &mut Vec<Value> = added.context("it has no `added_tokens`")?;
            for (id, word) in ids {
                let mut token = described(&token(word));
                token["id"] = json!(id);
                added.push(token);
            }
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Value> {
    let named = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(named)?;
    serde_json::from_str(&text).with_context(named)
}
