//! The built-in sample, a demonstration: made-up words of four topics. The unlabelled `domain` split tells what is
//! done with them (one boils a gaikur, a ratail plays a tune); the few labelled rows only name them, and each names few.
//! So adaptation has something to give. Any row can be made alone; no seed of the user's changes a text.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail};
use rand_chacha::rand_core::RngCore;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::read::{Name, Record, Records};
use crate::random::generator;

pub const NAME: &str = "sample";

const TOPICS: usize = 4;
const WORDS_PER_TOPIC: usize = 40;
const MISLABELLED: f64 = 0.04;

/// How the documents of a split are made.
struct Split {
    rows: u64,
    labelled: bool,
    /// Fewest words, drawn between these two; a document ends with the sentence that reaches it.
    words: (usize, usize),
    /// Share of sentences with topic words, after the first of a document.
    about: f64,
    /// Whether those tell what is done with the words.
    told: bool,
    /// Share of topic words taken from any topic.
    astray: f64,
}

fn split(name: &str) -> Result<Split> {
    let (labelled, words) = (true, (12, 20));
    let task = |rows| Split { rows, labelled, words, about: 0.9, told: false, astray: 0.1 };
    Ok(match name {
        "train" => task(160),
        "validation" => task(200),
        "test" => task(1000),
        "domain" => Split {
            rows: 12_000,
            labelled: false,
            words: (12, 18),
            about: 0.9,
            told: true,
            astray: 0.02,
        },
        "general" => Split {
            rows: 20_000,
            labelled: false,
            words: (1, 1),
            about: 0.15,
            told: false,
            astray: 1.0,
        },
        _ => bail!("{NAME}: no split `{name}`"),
    })
}

#[derive(Deserialize)]
struct Grammar {
    onsets: Vec<String>,
    vowels: Vec<String>,
    codas: Vec<String>,
    slots: HashMap<String, Vec<String>>,
    plain: Vec<String>,
    about: Vec<String>,
    /// Topic after topic.
    told: Vec<Vec<String>>,
    /// Made of the syllables above, topic after topic.
    #[serde(skip)]
    words: Vec<String>,
}

/// The rows of a split as records with `text` and, where labelled, `label`.
pub fn records(name: &str) -> Result<Records> {
    let split = split(name)?;
    let grammar = Grammar::new()?;
    let (purpose, name) = (format!("{NAME} {name}"), Name::from(format!("{NAME}/{name}")));
    Ok(Box::new((0..split.rows).map(move |row| {
        let mut rng = generator(&purpose, 0, 0);
        rng.set_stream(row);
        let cells = Ok(grammar.record(&split, &mut rng));
        Ok(Record { name: name.clone(), line: row + 1, cells, is_header: false })
    })))
}

impl Grammar {
    fn new() -> Result<Self> {
        let mut grammar: Self =
            serde_json::from_str(include_str!("sample.json")).context("sample.json")?;
        let (mut rng, mut seen) = (generator("sample words", 0, 0), HashSet::new());
        while grammar.words.len() < TOPICS * WORDS_PER_TOPIC {
            let word = grammar.invent(&mut rng);
            if seen.insert(word.clone()) {
                grammar.words.push(word);
            }
        }
        Ok(grammar)
    }

    fn invent(&self, rng: &mut impl RngCore) -> String {
        let syllables = [&self.onsets, &self.vowels, &self.onsets, &self.vowels, &self.codas];
        syllables.iter().map(|choices| pick(choices, rng).as_str()).collect()
    }

    fn record(&self, split: &Split, rng: &mut impl RngCore) -> Map<String, Value> {
        let topic = below(TOPICS, rng);
        let text = self.document(split, topic, rng);
        let mut record = Map::from_iter([("text".to_owned(), Value::String(text))]);
        if split.labelled {
            let wrong = happens(MISLABELLED, rng);
            let label = (topic + usize::from(wrong) * (1 + below(TOPICS - 1, rng))) % TOPICS;
            record.insert("label".into(), json!(label));
        }
        record
    }

    fn document(&self, split: &Split, topic: usize, rng: &mut impl RngCore) -> String {
        let about = if split.told { &self.told[topic] } else { &self.about };
        let least = split.words.0 + below(split.words.1 - split.words.0 + 1, rng);
        let mut words: Vec<String> = Vec::new();
        while words.len() < least {
            let first = words.is_empty() && split.words.0 > 1;
            let frames = if first || happens(split.about, rng) { about } else { &self.plain };
            for slot in pick(frames, rng).split(' ') {
                let said = match slot {
                    "{topic}" => self.topic_word(split, topic, rng),
                    slot => self.fill(slot, rng),
                };
                words.extend(said.split(' ').map(str::to_owned));
            }
            words.push(".".into());
        }
        words.join(" ").replace(" .", ".")
    }

    fn fill<'a>(&'a self, slot: &'a str, rng: &mut impl RngCore) -> &'a str {
        let name = slot.trim_matches(['{', '}']);
        self.slots.get(name).map_or(slot, |choices| pick(choices, rng))
    }

    fn topic_word(&self, split: &Split, topic: usize, rng: &mut impl RngCore) -> &str {
        let (start, len) = match happens(split.astray, rng) {
            true => (0, self.words.len()),
            false => (topic * WORDS_PER_TOPIC, WORDS_PER_TOPIC),
        };
        &self.words[start + below(len, rng)]
    }
}

/// A number below `n`.
fn below(n: usize, rng: &mut impl RngCore) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

fn happens(share: f64, rng: &mut impl RngCore) -> bool {
    f64::from(rng.next_u32()) < share * 4_294_967_296.0
}

fn pick<'a>(choices: &'a [String], rng: &mut impl RngCore) -> &'a String {
    &choices[below(choices.len(), rng)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_have_their_sizes_and_lengths() {
        for (name, rows, words) in
            [("train", 160, 10..=30), ("domain", 12_000, 10..=30), ("general", 20_000, 4..=20)]
        {
            let all: Vec<Record> = records(name).unwrap().collect::<Result<_>>().unwrap();
            assert_eq!(all.len(), rows);
            assert!(
                all.iter().all(|record| {
                    let text = record.cells.as_ref().unwrap()["text"].as_str().unwrap();
                    words.contains(&text.split(' ').count())
                }),
                "{name}"
            );
            assert_eq!(all[0].cells.as_ref().unwrap().contains_key("label"), name == "train");
        }
    }
}
