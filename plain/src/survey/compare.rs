//! What adapting to one body of text could give a model that knows another: how far their words lie apart.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::lengths::ratio;
use super::read::{Pieces, each_text};
use super::unigrams::{Unigrams, overlap};
use crate::data::Input;
use crate::text::Tokenizer;

/// Unigrams of each side in the overlap (Gururangan et al. 2020, section 3.1).
const VOCABULARY: usize = 10_000;
/// Words shown that one side has and the other has not.
const SHOWN: usize = 20;

/// One of the two.
#[derive(Default)]
struct Side {
    name: String,
    rows: u64,
    words: u64,
    unigrams: Unigrams,
    /// Nothing without a tokenizer.
    pieces: Option<Pieces>,
}

impl Side {
    fn read(input: &Input, dir: &Path, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let mut side = Self { name: input.source.join(" "), ..Default::default() };
        let mut pieces = Pieces::default();
        each_text(input, dir, tokenizer, |example, ids| {
            side.rows += 1;
            for text in [Some(example.text), example.pair].into_iter().flatten() {
                side.words += text.split_whitespace().count() as u64;
                side.unigrams.add(&text);
            }
            tokenizer.iter().for_each(|tokenizer| pieces.add(ids, tokenizer.special()));
        })?;
        Ok(Self { pieces: tokenizer.map(|_| pieces), ..side })
    }

    /// Tokens a word between blanks, and the share of unknown ones.
    fn fertility(&self) -> Option<(f64, f64)> {
        self.pieces.map(|p| (ratio(p.all, self.words), ratio(p.unknown, p.all)))
    }

    fn to_json(&self, unseen: f64, only: &[&str]) -> Value {
        let mut json = json!({
            "data": self.name, "rows": self.rows, "words": self.words,
            "unigrams": self.unigrams.distinct(), "unseen": unseen,
        });
        if let Some((tokens_per_word, unknown)) = self.fertility() {
            json["tokens_per_word"] = json!(tokens_per_word);
            json["unknown"] = json!(unknown);
        }
        json["only"] = json!(only.iter().take(SHOWN).collect::<Vec<_>>());
        json
    }
}

/// Two bodies of text, counted.
pub struct Comparison {
    sides: [Side; 2],
    tokenizer: Option<String>,
}

impl Comparison {
    /// Reads both with the columns, split and sample that `input` asks for.
    pub fn of(
        [a, b]: [&str; 2],
        input: &Input,
        dir: &Path,
        tokenizer: Option<Tokenizer>,
    ) -> Result<Self> {
        let tokenizer = tokenizer.map(Tokenizer::whole);
        let side = |source: &str| {
            let input = Input { source: vec![source.to_owned()], ..input.clone() };
            Side::read(&input, dir, tokenizer.as_ref())
        };
        let sides = [side(a)?, side(b)?];
        Ok(Self { sides, tokenizer: tokenizer.map(|tokenizer| tokenizer.digest().to_owned()) })
    }

    /// The share of each side's unigrams that the other never has.
    fn unseen(&self) -> [f64; 2] {
        let [a, b] = &self.sides;
        [a.unigrams.unseen_in(&b.unigrams), b.unigrams.unseen_in(&a.unigrams)]
    }

    pub fn to_json(&self) -> Value {
        let [a, b] = &self.sides;
        let found = overlap(&a.unigrams, &b.unigrams, VOCABULARY);
        let [unseen_a, unseen_b] = self.unseen();
        json!({
            "event": "compare",
            "a": a.to_json(unseen_a, &found.only[0]), "b": b.to_json(unseen_b, &found.only[1]),
            "vocabulary": found.size, "shared": found.shared, "overlap": found.share(),
            "divergence": a.unigrams.divergence(&b.unigrams), "tokenizer": self.tokenizer,
        })
    }
}

/// The same in lines of text, for the eye.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [a, b] = &self.sides;
        let found = overlap(&a.unigrams, &b.unigrams, VOCABULARY);
        let (share, bits) = (100.0 * found.share(), a.unigrams.divergence(&b.unigrams));
        writeln!(f, "{} and {}\n", a.name, b.name)?;
        writeln!(
            f,
            "{:>22} {share:>9.1} % of the {} most frequent words of each",
            "overlap", found.size
        )?;
        writeln!(f, "{:>22} {bits:>9.3} bits (0 the same, 1 no word in both)\n", "divergence")?;
        let mut line = |what: &str, cells: [String; 2]| {
            writeln!(f, "{what:>22} {:>11} {:>11}", cells[0], cells[1])
        };
        let each = |cell: &dyn Fn(&Side) -> String| [cell(a), cell(b)];
        line("", ["first".into(), "second".into()])?;
        line("rows", each(&|side| side.rows.to_string()))?;
        line("words", each(&|side| side.words.to_string()))?;
        line("unigrams", each(&|side| side.unigrams.distinct().to_string()))?;
        line("not in the other", self.unseen().map(|share| format!("{:.2} %", 100.0 * share)))?;
        if let (Some(a), Some(b)) = (a.fertility(), b.fertility()) {
            line("tokens per word", [a, b].map(|(tokens, _)| format!("{tokens:.2}")))?;
            line("unknown tokens", [a, b].map(|(_, unknown)| format!("{:.2} %", 100.0 * unknown)))?;
        }
        for (side, only) in self.sides.iter().zip(&found.only) {
            let words: Vec<&str> = only.iter().take(SHOWN).copied().collect();
            if !words.is_empty() {
                write!(f, "\nof {} alone: {}", side.name, words.join(" "))?;
            }
        }
        Ok(())
    }
}
