//! Predictions as `evaluate -p` writes them.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::flags::fault;

const CURE: &str = "evaluate MODEL SHARD -p FILE writes such a file";

/// What a text is, or is predicted to be.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Name(String),
    Names(Vec<String>),
    Number(#[allow(dead_code)] f64),
}

#[derive(Deserialize)]
struct Line {
    row: u64,
    gold: Said,
    pred: Said,
}

/// The names of all classes, which every line has; they are read from one.
#[derive(Deserialize)]
struct Probabilities {
    probs: Option<Keys>,
}

/// How many keys an object has.
struct Keys(usize);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Keys;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "an object of probabilities")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Keys, M::Error> {
        let mut count = 0;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Keys(count))
    }
}

/// Numbers of classes, the same in all files that are read with it.
#[derive(Debug, Default)]
pub struct Names {
    pub names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        *self.numbers.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }

    /// The numbers of the classes, in order; one class is a list of itself.
    fn numbers(&mut self, said: Said) -> Vec<u32> {
        let names = match said {
            Said::Name(name) => vec![name],
            Said::Names(names) => names,
            Said::Number(_) => Vec::new(),
        };
        let mut numbers: Vec<u32> = names.into_iter().map(|name| self.number(name)).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// The prediction for a text: the classes it has and is said to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub row: u64,
    pub gold: Vec<u32>,
    pub pred: Vec<u32>,
}

/// A file of predictions.
#[derive(Debug)]
pub struct Predictions {
    pub name: String,
    /// Whether texts have any number of classes, not one.
    pub several: bool,
    /// Classes that the model knows.
    pub classes: usize,
    pub all: Vec<Prediction>,
}

impl Predictions {
    /// Reads a file; `-` is standard input. Errors say `file:LINE: cause`.
    pub fn open(path: &Path, names: &mut Names) -> Result<Self> {
        let name = path.display().to_string();
        if path == Path::new("-") {
            return Self::read("standard input".into(), io::stdin().lock(), names);
        }
        let file = File::open(path).with_context(|| name.clone())?;
        Self::read(name, BufReader::new(file), names)
    }

    fn read(name: String, input: impl BufRead, names: &mut Names) -> Result<Self> {
        let mut file = Self { name, several: false, classes: 0, all: Vec::new() };
        for (line, number) in input.lines().zip(1..) {
            let at = || format!("{}:{number}", file.name);
            let line = line.with_context(at)?;
            let first = file.all.is_empty();
            let one = parsed(&line, first)
                .map_err(|error| fault(format!("{}: {error:#}", at()), CURE))?;
            let (Line { row, gold, pred }, classes) = one;
            let several = matches!(gold, Said::Names(_));
            let mixed = || format!("{}: some lines have one class, others lists of them", at());
            ensure!(first || several == file.several, fault(mixed(), CURE));
            file.several = several;
            file.classes += classes;
            let (gold, pred) = (names.numbers(gold), names.numbers(pred));
            file.all.push(Prediction { row, gold, pred });
        }
        ensure!(!file.all.is_empty(), fault(format!("{}: it has no predictions", file.name), CURE));
        Ok(file)
    }
}

/// A line, and of the `first` how many classes there are.
fn parsed(line: &str, first: bool) -> Result<(Line, usize)> {
    let cause = |error: serde_json::Error| anyhow!("no prediction: {}", cause(&error));
    let found: Line = serde_json::from_str(line).map_err(cause)?;
    match (&found.gold, &found.pred) {
        (Said::Name(_), Said::Name(_)) | (Said::Names(_), Said::Names(_)) => {}
        (Said::Number(_), _) | (_, Said::Number(_)) => {
            bail!("a number is predicted; only classes are right or wrong")
        }
        _ => bail!("one class and a list of them"),
    }
    if !first {
        return Ok((found, 0));
    }
    let probabilities: Probabilities = serde_json::from_str(line).map_err(cause)?;
    let keys = probabilities.probs.context("no prediction: missing field `probs`")?;
    Ok((found, keys.0))
}

/// What is wrong with a line, without the line, which is 1.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.replace(" at line 1 column", " at column").replace(
        "data did not match any variant of untagged enum Said",
        "`gold` and `pred` are names, or lists of names",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Predictions> {
        Predictions::read("f".into(), text.as_bytes(), &mut Names::default())
    }

    #[test]
    fn lines_are_read() {
        let text = r#"{"row":3,"gold":"b","pred":"a","probs":{"a":0.6,"b":0.3,"c":0.1}}
{"row":1,"gold":"a","pred":"a","probs":{}}"#;
        let file = read(text).unwrap();
        assert_eq!((file.classes, file.several), (3, false));
        assert_eq!(file.all[0], Prediction { row: 3, gold: vec![0], pred: vec![1] });
        assert_eq!(file.all[1], Prediction { row: 1, gold: vec![1], pred: vec![1] });
        let several = read(r#"{"row":0,"gold":["b","a"],"pred":[],"probs":{"a":0,"b":null}}"#);
        assert_eq!(several.unwrap().all[0].gold, [0, 1]);
    }

    #[test]
    fn what_is_no_prediction_is_said() {
        let cause = |text: &str| format!("{:#}", read(text).unwrap_err());
        let good = r#"{"row":0,"gold":"a","pred":"b","probs":{"a":0,"b":1}}"#;
        assert_eq!(cause(""), "f: it has no predictions");
        assert_eq!(cause("x"), "f:1: no prediction: expected value at column 1");
        for (line, wanted) in [
            (r#"{"label":"a"}"#, "no prediction: missing field `row` at column 13"),
            (
                r#"{"row":0,"gold":1.5,"pred":2}"#,
                "a number is predicted; only classes are right or wrong",
            ),
            (r#"{"row":0,"gold":"a","pred":["a"]}"#, "one class and a list of them"),
            (
                r#"{"row":0,"gold":["a"],"pred":["a"]}"#,
                "some lines have one class, others lists of them",
            ),
            (
                r#"{"row":0,"gold":{},"pred":"a"}"#,
                "no prediction: `gold` and `pred` are names, or lists of names at column 18",
            ),
        ] {
            let said = cause(&format!("{good}\n{line}\n"));
            assert_eq!(said, format!("f:2: {wanted}"));
        }
        assert_eq!(
            cause(r#"{"row":0,"gold":"a","pred":"a"}"#),
            "f:1: no prediction: missing field `probs`"
        );
    }
}
