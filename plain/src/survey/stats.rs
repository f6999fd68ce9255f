//! What a split is like before anything is trained on it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::{fmt, iter};

use anyhow::Result;
use serde_json::{Value, json};

use super::lengths::{Lengths, bar, ratio};
use super::read::{Pieces, each};
use crate::data::{Dataset, Example, LabelKind};
use crate::text::Tokenizer;

/// Labels that the picture shows; the JSON has all.
const SHOWN: usize = 30;

/// What is counted in one pass. Memory grows by some 40 bytes a row, to know duplicates, and with nothing else.
#[derive(Default)]
pub struct Stats {
    source: Value,
    rows: u64,
    empty: u64,
    duplicates: u64,
    relabelled: u64,
    unlabelled: u64,
    kind: LabelKind,
    labels: Labels,
    characters: Lengths,
    words: Lengths,
    tokens: Option<Tokens>,
    /// Digest of every text, and the label it first had.
    seen: HashMap<(u64, Option<u64>), Option<u32>>,
}

/// Names, each with its number and its rows.
#[derive(Default)]
struct Labels {
    numbers: HashMap<String, u32>,
    rows: Vec<u64>,
}

impl Labels {
    fn new(names: Vec<String>) -> Self {
        let rows = vec![0; names.len()];
        Self { numbers: names.into_iter().zip(0..).collect(), rows }
    }

    /// Counts a row and gives the number of its label.
    fn add(&mut self, name: &str) -> u32 {
        let number = self.numbers.get(name).copied().unwrap_or_else(|| {
            self.rows.push(0);
            self.numbers.insert(name.to_owned(), self.rows.len() as u32 - 1);
            self.rows.len() as u32 - 1
        });
        self.rows[number as usize] += 1;
        number
    }

    /// Each label, and its rows.
    fn each(&self) -> impl Iterator<Item = (&str, u64)> {
        self.numbers.iter().map(|(label, number)| (&label[..], self.rows[*number as usize]))
    }

    /// The names in labels of this kind, the most frequent first, then by name.
    fn sorted(&self, kind: &LabelKind) -> Vec<(String, u64)> {
        let mut counts: HashMap<String, u64> = HashMap::new();
        for (label, rows) in self.each() {
            kind.names(label).into_iter().for_each(|name| *counts.entry(name).or_default() += rows);
        }
        let mut all: Vec<_> = counts.into_iter().collect();
        all.sort_unstable_by(|(a, m), (b, n)| (n, a).cmp(&(m, b)));
        all
    }

    /// Least, mean and largest, where labels are numbers; added up in their order, whatever that of the map.
    fn range(&self) -> Option<[f64; 3]> {
        let number = |(label, rows): (&str, u64)| Some((label.parse().ok()?, rows as f64));
        let mut all: Vec<(f64, f64)> = self.each().filter_map(number).collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let (sum, n) =
            all.iter().fold((0.0, 0.0), |(sum, n), (a, rows)| (sum + a * rows, n + rows));
        Some([all.first()?.0, sum / n, all.last()?.0])
    }
}

/// What only a tokenizer can tell.
struct Tokens {
    tokenizer: String,
    max_length: u32,
    /// Special tokens included, nothing cut off.
    lengths: Lengths,
    pieces: Pieces,
}

impl Tokens {
    fn new(tokenizer: &Tokenizer, max_length: u32) -> Self {
        let (lengths, pieces) = Default::default();
        Self { tokenizer: tokenizer.digest().to_owned(), max_length, lengths, pieces }
    }

    /// Texts longer than the limit, and the tokens they lose by it.
    fn truncated(&self) -> (u64, u64) {
        self.lengths.over(self.max_length as usize)
    }
}

impl Stats {
    /// Counts a data set. The lengths in tokens are those before a text is cut to what the tokenizer is set to.
    pub fn of(data: Dataset, tokenizer: Option<Tokenizer>) -> Result<Self> {
        let Dataset { labels, kind, source, examples, .. } = data;
        let labels = Labels::new(labels.into_iter().filter_map(|name| kind.label(name)).collect());
        let mut stats = Self { source, kind, labels, ..Default::default() };
        let Some(tokenizer) = tokenizer else {
            each(examples, None, |example, _| stats.add(&example))?;
            return Ok(stats);
        };
        let max_length = tokenizer.max_length();
        let tokenizer = tokenizer.whole();
        let mut tokens = Tokens::new(&tokenizer, max_length);
        each(examples, Some(&tokenizer), |example, ids| {
            stats.add(&example);
            tokens.lengths.add(ids.len());
            tokens.pieces.add(ids, tokenizer.special());
        })?;
        Ok(Self { tokens: Some(tokens), ..stats })
    }

    fn add(&mut self, example: &Example) {
        let texts = || iter::once(&example.text).chain(&example.pair);
        let words = texts().map(|text| text.split_whitespace().count()).sum();
        self.rows += 1;
        self.empty += u64::from(words == 0);
        self.words.add(words);
        self.characters.add(texts().map(|text| text.chars().count()).sum());
        let label = example.label.as_deref().map(|name| self.labels.add(name));
        self.unlabelled += u64::from(label.is_none());
        match self.seen.entry(example.hashes()) {
            Entry::Vacant(place) => {
                place.insert(label);
            }
            Entry::Occupied(first) => {
                self.duplicates += 1;
                self.relabelled += u64::from(*first.get() != label);
            }
        }
    }

    /// Tokens that stand for text, to a word between blanks.
    fn tokens_per_word(&self, tokens: &Tokens) -> f64 {
        ratio(tokens.pieces.all, self.words.total())
    }

    pub fn to_json(&self) -> Value {
        let share =
            |(label, rows)| json!({"label": label, "rows": rows, "share": ratio(rows, self.rows)});
        let labels: Vec<Value> = self.labels.sorted(&self.kind).into_iter().map(share).collect();
        let mut json = json!({
            "event": "stats", "source": self.source, "rows": self.rows, "empty": self.empty,
            "duplicates": self.duplicates, "relabelled": self.relabelled, "unlabelled": self.unlabelled,
            "labels": labels, "characters": self.characters.to_json(), "words": self.words.to_json(),
        });
        if let Some([least, mean, most]) = self.numbers() {
            json["numbers"] = json!({"min": least, "mean": mean, "max": most});
        }
        if let Some(tokens) = &self.tokens {
            let (truncated, cut) = tokens.truncated();
            json["tokens"] = tokens.lengths.to_json();
            json["tokenizer"] = json!(tokens.tokenizer);
            json["max_length"] = json!(tokens.max_length);
            json["tokens_per_word"] = json!(self.tokens_per_word(tokens));
            json["unknown"] = json!(ratio(tokens.pieces.unknown, tokens.pieces.all));
            json["truncated"] = json!(ratio(truncated, self.rows));
            json["cut"] = json!(ratio(cut, tokens.lengths.total()));
        }
        json
    }
}

/// The same in lines of text, for the eye.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { rows, empty, duplicates, relabelled, .. } = self;
        write!(f, "{rows} rows, {empty} empty, {duplicates} duplicates")?;
        if *relabelled > 0 {
            write!(f, " ({relabelled} with another label)")?;
        }
        writeln!(f, "\n")?;
        self.write_labels(f)?;
        write!(f, "{}", Lengths::heading())?;
        self.tokens.iter().try_for_each(|t| write!(f, "{}", t.lengths.row("tokens")))?;
        writeln!(f, "{}{}", self.words.row("words"), self.characters.row("characters"))?;
        let Some(tokens) = &self.tokens else {
            return write!(f, "{}", self.words.picture("words"));
        };
        let (truncated, cut) = tokens.truncated();
        writeln!(f, "{:>15} {:>9.2}", "tokens per word", self.tokens_per_word(tokens))?;
        writeln!(f, "{:>15} {}", "unknown", percent(tokens.pieces.unknown, tokens.pieces.all))?;
        let rows = percent(truncated, self.rows);
        let cut = percent(cut, tokens.lengths.total());
        let most = format!("over {}", tokens.max_length);
        writeln!(f, "{most:>15} {rows} of the rows, {} of the tokens\n", cut.trim_start())?;
        write!(f, "{}", tokens.lengths.picture("tokens"))
    }
}

impl Stats {
    /// Least, mean and largest label, where labels are numbers.
    fn numbers(&self) -> Option<[f64; 3]> {
        self.labels.range().filter(|_| self.kind == LabelKind::Number)
    }

    fn write_labels(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some([least, mean, most]) = self.numbers() {
            return writeln!(f, "{:>15} {least} to {most}, mean {mean:.4}\n", "labels");
        }
        let labels = self.labels.sorted(&self.kind);
        let Some((_, most)) = labels.first() else { return Ok(()) };
        for (label, rows) in labels.iter().take(SHOWN) {
            let share = percent(*rows, self.rows);
            writeln!(
                f,
                "{}",
                format!("{label:>15} {rows:>9} {share} {}", bar(*rows, *most)).trim_end()
            )?;
        }
        let more = labels.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(f, "{:>15} and {more} more", "")?;
        }
        if self.unlabelled > 0 {
            let share = percent(self.unlabelled, self.rows);
            writeln!(f, "{:>15} {:>9} {share}", "(no label)", self.unlabelled)?;
        }
        writeln!(f)
    }
}

/// A share as a cell of 9 characters and its sign.
fn percent(part: u64, whole: u64) -> String {
    format!("{:>9.2} %", 100.0 * ratio(part, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(rows: &[(&str, Option<&str>, Option<&str>)]) -> Stats {
        let example =
            |(row, (text, pair, label)): (u64, &(&str, Option<&str>, Option<&str>))| Example {
                text: text.to_string(),
                pair: pair.map(str::to_owned),
                label: label.map(str::to_owned),
                row,
            };
        let examples: Vec<_> = (0..).zip(rows).map(example).map(Ok).collect();
        let labels = vec!["a".to_owned(), "z".to_owned()];
        let skipped = Default::default();
        let examples: crate::data::Examples = Box::new(examples.into_iter());
        Stats::of(
            Dataset {
                labels,
                source: json!({}),
                skipped,
                dropped: None,
                kind: Default::default(),
                examples,
            },
            None,
        )
        .unwrap()
    }

    #[test]
    fn rows_labels_and_duplicates_are_counted() {
        let rows =
            [("x y", Some("b")), ("x y", Some("a")), (" ", Some("b")), ("X  y\n", Some("b"))];
        let json = stats(&rows.map(|(text, label)| (text, None, label))).to_json();
        let counts = ["rows", "empty", "duplicates", "relabelled", "unlabelled"]
            .map(|key| json[key].as_u64());
        assert_eq!(counts, [4, 1, 2, 1, 0].map(Some));
        let label = |name, rows, share| json!({"label": name, "rows": rows, "share": share});
        let wanted = json!([label("b", 3, 0.75), label("a", 1, 0.25), label("z", 0, 0.0)]);
        assert_eq!(json["labels"], wanted);
        assert_eq!((&json["words"]["total"], &json["characters"]["max"]), (&json!(6), &json!(5)));
    }

    #[test]
    fn a_pair_is_the_same_only_as_a_pair() {
        let rows =
            [("ab", None), ("a", Some("b")), ("", Some("ab")), ("ab", Some("")), ("a", Some("b"))];
        let stats = stats(&rows.map(|(text, pair)| (text, pair, None)));
        assert_eq!((stats.duplicates, stats.unlabelled), (1, 5));
    }

    #[test]
    fn no_rows_are_no_error() {
        let none = stats(&[]);
        assert_eq!(none.to_json()["words"]["mean"], json!(0.0));
        assert!(none.to_string().starts_with("0 rows, 0 empty, 0 duplicates\n"));
    }
}
