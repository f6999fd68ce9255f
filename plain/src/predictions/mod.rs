//! Two models' predictions for the same texts: whether the one is better, or has more luck.

mod read;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::flags::{fault, usage};
use crate::metrics::{Hits, bootstrap, mcnemar};
use read::{Names, Prediction, Predictions};

/// The cure of files that are of other texts.
const SHARD: &str = "both must be of the same shard";

/// A text as two models see it: its classes, and what each predicts.
type Seen<'a> = [&'a [u32]; 3];

/// Two files of predictions, text by text.
pub struct Pair {
    names: Names,
    a: Predictions,
    b: Predictions,
    /// Of each prediction of `a`, the one of `b` for the same text.
    other: Vec<usize>,
}

impl Pair {
    /// Opens the files of two models. Fails unless they are of the same texts: rows and gold classes must agree. Of equal
    /// rows the first is taken with the first, and so on.
    pub fn open(a: &Path, b: &Path) -> Result<Self> {
        let twice = a == b && a == Path::new("-");
        ensure!(!twice, usage("--compare - -: only one of them can be standard input"));
        let mut names = Names::default();
        let (a, b) = (Predictions::open(a, &mut names)?, Predictions::open(b, &mut names)?);
        let kinds = || format!("{} and {}: one class a text, and lists of them", a.name, b.name);
        ensure!(a.several == b.several, fault(kinds(), SHARD));
        let other = joined(&a, &b)?;
        let pair = Self { names, a, b, other };
        pair.check()?;
        Ok(pair)
    }

    fn check(&self) -> Result<()> {
        let (a, b) = (&self.a.name, &self.b.name);
        for (own, other) in self.both() {
            let [gold, others] = [own, other].map(|one| self.named(&one.gold));
            let cause = || format!("row {}: gold is {gold} in {a} and {others} in {b}", own.row);
            ensure!(own.gold == other.gold, fault(cause(), SHARD));
        }
        Ok(())
    }

    /// The predictions of both, in the order of the first.
    fn both(&self) -> impl Iterator<Item = (&Prediction, &Prediction)> {
        self.a.all.iter().zip(self.other.iter().map(|&at| &self.b.all[at]))
    }

    /// Texts that both have right, that only the first has, that only the second has.
    pub fn right(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for (a, b) in self.both() {
            match (a.gold == a.pred, b.gold == b.pred) {
                (true, true) => counts[0] += 1,
                (true, false) => counts[1] += 1,
                (false, true) => counts[2] += 1,
                (false, false) => {}
            }
        }
        counts
    }

    /// Classes as a file has them: a name, or a list.
    fn named(&self, classes: &[u32]) -> Value {
        let mut names = classes.iter().map(|&class| json!(self.names.names[class as usize]));
        if self.a.several { names.collect() } else { names.next().unwrap_or_default() }
    }

    /// Writes a JSON line for each text that they predict differently: what each says, and which of them is right.
    pub fn write_differences(&self, out: &mut impl Write) -> Result<()> {
        for (a, b) in self.both().filter(|(a, b)| a.pred != b.pred) {
            let right = match (a.pred == a.gold, b.pred == b.gold) {
                (true, _) => json!("a"),
                (_, true) => json!("b"),
                _ => Value::Null,
            };
            let [gold, ours, theirs] = [&a.gold, &a.pred, &b.pred].map(|said| self.named(said));
            let line = json!({"row": a.row, "gold": gold, "a": ours, "b": theirs, "right": right});
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// Who is right how often, McNemar's test, and both differences, second less first, with the paired bootstrap's 95 %
    /// intervals: texts are drawn, each with both predictions.
    pub fn to_json(&self) -> Value {
        let mut cells: BTreeMap<Seen, u64> = BTreeMap::new();
        for (a, b) in self.both() {
            *cells.entry([&a.gold, &a.pred, &b.pred]).or_default() += 1;
        }
        let (cells, counts): (Vec<Seen>, Vec<u64>) = cells.into_iter().unzip();
        let [both, only_a, only_b] = self.right();
        let differ = cells.iter().zip(&counts).filter(|([_, a, b], _)| a != b);
        let differ: u64 = differ.map(|(_, count)| count).sum();
        let scores = |counts: &[u64]| self.scores(&cells, counts);
        let found = scores(&counts);
        let intervals = bootstrap(&counts, |counts| scores(counts).map(|[a, b]| b - a));
        let [accuracy, macro_f1] = [0, 1].map(|i| {
            let ([a, b], (low, high)) = (found[i], intervals[i]);
            json!({"a": a, "b": b, "difference": b - a, "interval": [low, high]})
        });
        let examples = self.a.all.len() as u64;
        let neither = examples - both - only_a - only_b;
        json!({
            "event": "compare", "a": self.a.name, "b": self.b.name, "examples": examples,
            "right": {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither},
            "differ": differ, "mcnemar": {"p": mcnemar(only_a, only_b)},
            "accuracy": accuracy, "macro_f1": macro_f1,
        })
    }

    /// Accuracy and macro F1 of each model, of texts that occur so often.
    fn scores(&self, cells: &[Seen], counts: &[u64]) -> [[f64; 2]; 2] {
        let all: u64 = counts.iter().sum();
        let one = |which: usize| {
            // Where texts have any number of classes, those that never occur count too, as in `evaluate`.
            let classes = if self.a.several { self.a.classes } else { 0 };
            let mut hits = Hits::new(classes.max(self.names.names.len()));
            let mut right = 0;
            for (seen, &count) in cells.iter().zip(counts).filter(|(_, count)| **count > 0) {
                hits.add(seen[0], seen[which], count);
                right += if seen[0] == seen[which] { count } else { 0 };
            }
            let macro_f1 = if self.a.several { hits.macro_f1_of_all() } else { hits.macro_f1() };
            [right as f64 / all.max(1) as f64, macro_f1]
        };
        let [a, b] = [one(1), one(2)];
        [[a[0], b[0]], [a[1], b[1]]]
    }
}

/// Of each prediction of `a`, the one of `b` for the same row.
fn joined(a: &Predictions, b: &Predictions) -> Result<Vec<usize>> {
    let order = |of: &Predictions| {
        let mut order: Vec<usize> = (0..of.all.len()).collect();
        order.sort_by_key(|&at| of.all[at].row);
        order
    };
    let (first, second) = (order(a), order(b));
    let mut other = vec![0; first.len()];
    for at in 0..first.len().max(second.len()) {
        let row = |of: &Predictions, order: &[usize]| order.get(at).map(|&at| of.all[at].row);
        let (own, others) = (row(a, &first), row(b, &second));
        if own == others {
            other[first[at]] = second[at];
            continue;
        }
        // What comes first in order has no partner; the end comes last.
        let a_lacks = own.is_none_or(|own| others.is_some_and(|others| others < own));
        let (row, has, lacks) = if a_lacks { (others, b, a) } else { (own, a, b) };
        let cause = format!(
            "{} ({} rows) has no other row {}, which {} ({} rows) has",
            lacks.name,
            lacks.all.len(),
            row.unwrap_or_default(),
            has.name,
            has.all.len()
        );
        bail!(fault(cause, SHARD));
    }
    Ok(other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pair(a: &[(u64, &str, &str)], b: &[(u64, &str, &str)]) -> Result<Pair> {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = [("a", a), ("b", b)].map(|(name, lines)| {
            let line = |(row, gold, pred): &(u64, &str, &str)| {
                json!({"row": row, "gold": gold, "pred": pred, "probs": {}}).to_string() + "\n"
            };
            let path = dir.path().join(name);
            fs::write(&path, lines.iter().map(line).collect::<String>()).unwrap();
            path
        });
        Pair::open(&a, &b)
    }

    #[test]
    fn texts_are_joined_by_row() {
        let a = [(5, "x", "x"), (1, "x", "y"), (1, "y", "y"), (3, "y", "x")];
        let b = [(1, "x", "x"), (3, "y", "x"), (1, "y", "y"), (5, "x", "y")];
        let pair = pair(&a, &b).unwrap();
        let found = pair.to_json();
        assert_eq!(found["right"], json!({"both": 1, "only_a": 1, "only_b": 1, "neither": 1}));
        assert_eq!((&found["differ"], &found["mcnemar"]["p"]), (&json!(2), &json!(1.0)));
        assert_eq!(found["accuracy"]["difference"], 0.0);
        let mut lines = Vec::new();
        pair.write_differences(&mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let wanted = "{\"row\":5,\"gold\":\"x\",\"a\":\"x\",\"b\":\"y\",\"right\":\"a\"}\n\
                      {\"row\":1,\"gold\":\"x\",\"a\":\"y\",\"b\":\"x\",\"right\":\"b\"}\n";
        assert_eq!(lines, wanted);
    }

    #[test]
    fn other_texts_are_an_error() {
        let cause = |a: &[(u64, &str, &str)], b: &[(u64, &str, &str)]| {
            let error = pair(a, b).err().unwrap().to_string();
            let words: Vec<&str> =
                error.split(' ').map(|word| word.rsplit('/').next().unwrap()).collect();
            words.join(" ")
        };
        let one = [(0, "x", "x"), (1, "x", "x")];
        let less = "b (1 rows) has no other row 1, which a (2 rows) has";
        assert_eq!(cause(&one, &one[..1]), less);
        let more = "a (1 rows) has no other row 0, which b (2 rows) has";
        assert_eq!(cause(&one[1..], &one), more);
        let gold = "row 1: gold is \"x\" in a and \"y\" in b";
        assert_eq!(cause(&one, &[(1, "y", "x"), (0, "x", "x")]), gold);
    }

    #[test]
    fn who_is_better_has_an_interval_above_nothing() {
        let texts = |right: usize| {
            (0..200).map(move |i| (i, "x", if i < right as u64 { "x" } else { "y" }))
        };
        let (a, b): (Vec<_>, Vec<_>) = (texts(120).collect(), texts(160).collect());
        let found = pair(&a, &b).unwrap().to_json();
        let interval = |key: &str| [0, 1].map(|end| found[key]["interval"][end].as_f64().unwrap());
        let [low, high] = interval("accuracy");
        assert!((found["accuracy"]["difference"].as_f64().unwrap() - 0.2).abs() < 1e-12);
        assert!(low > 0.13 && low < 0.2 && high > 0.2 && high < 0.27, "{low} {high}");
        assert!(found["mcnemar"]["p"].as_f64().unwrap() < 1e-9);
        assert!(interval("macro_f1")[0] > 0.0);
    }
}
