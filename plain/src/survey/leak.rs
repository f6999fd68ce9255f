//! Which rows of a split are in other data too: the same texts, and nearly the same.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::data::{self, Dataset, Example, Found, Print, Seen, Sketch};
use crate::flags::{fault, share, usage};
use crate::shard::{self, Segment, Segments};
use crate::text::{Encoding, Length, Tokenizer};

/// Rows shown.
const SHOWN: usize = 10;

/// What to compare with, as flags.
#[derive(Debug, Clone, clap::Args)]
pub struct Against {
    /// Instead of a shard, write one JSON line: how many rows are also in this one (a token shard, which wants the
    /// --tokenizer it was written with, or a file of rows), the same or nearly
    #[arg(long, value_name = "SHARD|FILE", conflicts_with_all = ["jsonl", "train_tokenizer"])]
    pub against: Option<PathBuf>,

    /// With --against: fail, once the line is written, if a larger share of the rows than this is in the other data
    /// [default: never]
    #[arg(long, value_name = "SHARE", requires = "against", value_parser = share)]
    pub max_leak: Option<f64>,
}

/// The other data, to be looked up.
struct Other {
    seen: Seen,
    /// For each text of a pair, a row that has it.
    texts: HashMap<u64, u32>,
    /// The number of each row, as its source counts; none where sequences are not rows.
    rows: Vec<Option<u64>>,
    /// What rows are encoded with before they are compared; none if their words are.
    tokenizer: Option<Tokenizer>,
    /// Whether near repetitions can be told.
    near: bool,
}

/// How a row is in the other data.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leak {
    Exact(u32),
    /// One text of a pair.
    Shared(u32),
    Near(u32, f64),
}

impl Against {
    /// Fails where there is a limit and nothing that it is held against.
    pub fn check_limit(&self) -> Result<()> {
        let alone = self.max_leak.is_some() && self.against.is_none();
        ensure!(!alone, usage("--max-leak goes with --against"));
        Ok(())
    }

    /// Writes the report on `ours`; fails above `max_leak`. `rows` reads a file as rows of ours are.
    pub fn report(
        &self,
        path: &Path,
        mut ours: Dataset,
        (similarity, encoding): (f64, &Encoding),
        rows: impl FnOnce(bool) -> Result<Dataset>,
        out: &mut impl Write,
    ) -> Result<String> {
        let directory = || {
            fault(
                format!("{}: is a directory", path.display()),
                "name a token shard or a file of rows",
            )
        };
        ensure!(!path.is_dir(), directory());
        let mut batch = data::read_batch(&mut ours.examples)?;
        let pairs = batch.first().is_some_and(|example| example.pair.is_some());
        let named = || path.display().to_string();
        let other = match shard::shard_or_text(path).with_context(named)? {
            shard::Input::Shard(segments) => Other::shard(segments, similarity, encoding, pairs)?,
            shard::Input::Text(_) => Other::rows(rows(pairs)?, similarity)?,
        };
        let mut counts = Counts::default();
        while !batch.is_empty() {
            let leaks: Result<Vec<_>> =
                batch.par_iter().map(|example| other.find(example)).collect();
            for (example, leak) in batch.iter().zip(leaks?) {
                counts.add(example.row, leak, &other.rows);
            }
            batch = data::read_batch(&mut ours.examples)?;
        }
        let mut line = json!({"event": "leak", "data": ours.source, "against": path});
        counts.write(&mut line, &other, (similarity, pairs));
        writeln!(out, "{line}")?;
        self.check(counts.share(), path)?;
        Ok(format!("{} of {} rows are in {}", counts.found(), counts.rows, path.display()))
    }

    fn check(&self, found: f64, path: &Path) -> Result<()> {
        let fine = self.max_leak.is_none_or(|most| found <= most);
        let cure = "leave these rows out on one side, or split by groups with --group-by";
        let most = self.max_leak.unwrap_or(1.0);
        let cause = format!("{found:.4} of the rows are in {}; --max-leak {most}", path.display());
        ensure!(fine, fault(cause, cure));
        Ok(())
    }
}

impl Other {
    fn new(similarity: f64, tokenizer: Option<Tokenizer>) -> Self {
        let (seen, texts) = (Seen::new(Some(similarity)), HashMap::new());
        Self { seen, texts, rows: Vec::new(), tokenizer, near: true }
    }

    fn add(&mut self, print: Print, row: Option<u64>) {
        let at = self.rows.len() as u32;
        self.rows.push(row);
        if let (first, Some(second)) = print.texts {
            self.texts.entry(first).or_insert(at);
            self.texts.entry(second).or_insert(at);
        }
        self.seen.insert(print, at);
    }

    fn rows(mut data: Dataset, similarity: f64) -> Result<Self> {
        let mut other = Self::new(similarity, None);
        loop {
            let batch = data::read_batch(&mut data.examples)?;
            if batch.is_empty() {
                return Ok(other);
            }
            let prints: Vec<Print> =
                batch.par_iter().map(|example| Print::of(example, true)).collect();
            prints.into_iter().zip(batch).for_each(|(p, example)| other.add(p, Some(example.row)));
        }
    }

    fn shard(
        segments: Segments,
        similarity: f64,
        encoding: &Encoding,
        pairs: bool,
    ) -> Result<Self> {
        let mut other = Self::new(similarity, None);
        let name = segments.name().to_owned();
        for segment in segments {
            let segment = segment?;
            other.add_segment(&segment, encoding, pairs).with_context(|| name.clone())?;
        }
        Ok(other)
    }

    fn add_segment(&mut self, segment: &Segment, encoding: &Encoding, pairs: bool) -> Result<()> {
        ensure!(
            segment.masked_by().is_none(),
            "it is masked; the shard it was masked from is wanted"
        );
        if segment.is_empty() {
            return Ok(());
        }
        let kind = |pairs: bool| if pairs { "pairs" } else { "single texts" };
        let is_pairs = segment.is_pairs();
        ensure!(is_pairs == pairs, "its rows are {}, these are {}", kind(is_pairs), kind(pairs));
        if self.tokenizer.is_none() {
            self.tokenizer = Some(tokenizer(segment, encoding)?);
        }
        let texts =
            segment.texts().with_context(|| "it does not name its texts (tensor `texts`)")?;
        let texts: Vec<u64> = texts.collect();
        let texts: Vec<(u64, Option<u64>)> = match pairs {
            true => texts.chunks(2).map(|two| (two[0], two.get(1).copied())).collect(),
            false => texts.into_iter().map(|text| (text, None)).collect(),
        };
        // Packed or cut up, its sequences are no texts to compare ours with.
        if texts.len() != segment.len() {
            self.near = false;
            texts.into_iter().for_each(|texts| self.add(Print { texts, sketch: None }, None));
            return Ok(());
        }
        let special = &segment.header().special.all;
        let sketch = |i: usize| {
            let view = segment.view(i);
            let tokens: Vec<u32> = view.tokens.iter().collect();
            (Sketch::of(&words(&tokens, |t| view.begins_word(t), special)), view.row)
        };
        let sketches: Vec<_> = (0..segment.len()).into_par_iter().map(sketch).collect();
        for (texts, (sketch, row)) in texts.into_iter().zip(sketches) {
            self.add(Print { texts, sketch }, Some(row));
        }
        Ok(())
    }

    fn find(&self, example: &Example) -> Result<Option<Leak>> {
        let print = match &self.tokenizer {
            None => Print::of(example, true),
            Some(tokenizer) => encoded(example, tokenizer)?,
        };
        let found = self.seen.find(&print);
        if let Some(Found::Exact(at)) = found {
            return Ok(Some(Leak::Exact(at)));
        }
        let shared = print
            .texts
            .1
            .and_then(|second| self.texts.get(&print.texts.0).or_else(|| self.texts.get(&second)));
        let near = match found {
            Some(Found::Near(at, similarity)) if self.near => Some(Leak::Near(at, similarity)),
            _ => None,
        };
        Ok(shared.map(|&at| Leak::Shared(at)).or(near))
    }
}

/// The tokenizer a shard was written with, cutting as it was cut.
fn tokenizer(segment: &Segment, encoding: &Encoding) -> Result<Tokenizer> {
    let header = segment.header();
    ensure!(
        encoding.tokenizer.is_some(),
        usage("--against a shard wants the --tokenizer it was written with")
    );
    let length = Length { max_length: Some(header.max_length), stride: None };
    let encoding = Encoding { length, ..encoding.clone() };
    let tokenizer = encoding.open()?;
    ensure!(tokenizer.digest() == header.tokenizer, "it was written with another tokenizer");
    Ok(tokenizer)
}

fn encoded(example: &Example, tokenizer: &Tokenizer) -> Result<Print> {
    let encoded = tokenizer.encode((&example.text, example.pair.as_deref()))?;
    let words = words(&encoded.tokens, |t| encoded.words[t], &tokenizer.special().all);
    Ok(Print { texts: example.hashes(), sketch: Sketch::of(&words) })
}

/// The words of a sequence, each known by its tokens; special tokens are none.
fn words(tokens: &[u32], begins: impl Fn(usize) -> bool, special: &[u32]) -> Vec<u64> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    for (t, token) in tokens.iter().enumerate().filter(|(_, token)| !special.contains(token)) {
        if begins(t) || words.is_empty() {
            words.push(Vec::new());
        }
        words.iter_mut().last().into_iter().for_each(|word| word.extend(token.to_le_bytes()));
    }
    words.iter().map(|word| data::word(word)).collect()
}

#[derive(Default)]
struct Counts {
    rows: u64,
    exact: u64,
    shared: u64,
    near: u64,
    shown: Vec<Value>,
}

impl Counts {
    fn add(&mut self, row: u64, leak: Option<Leak>, rows: &[Option<u64>]) {
        self.rows += 1;
        let Some(leak) = leak else { return };
        let (count, kind, at, similarity) = match leak {
            Leak::Exact(at) => (&mut self.exact, "exact", at, None),
            Leak::Shared(at) => (&mut self.shared, "shared", at, None),
            Leak::Near(at, similarity) => (&mut self.near, "near", at, Some(similarity)),
        };
        *count += 1;
        if self.shown.len() < SHOWN {
            let mut shown = json!({"row": row, "kind": kind, "other": rows[at as usize]});
            similarity.iter().for_each(|similarity| shown["similarity"] = json!(similarity));
            self.shown.push(shown);
        }
    }

    /// The share of the rows that are in the other data in any way.
    fn share(&self) -> f64 {
        self.part(self.found())
    }

    fn found(&self) -> u64 {
        self.exact + self.shared + self.near
    }

    fn part(&self, count: u64) -> f64 {
        count as f64 / self.rows.max(1) as f64
    }

    fn write(&self, line: &mut Value, other: &Other, (similarity, pairs): (f64, bool)) {
        line["rows"] = json!(self.rows);
        line["of"] = json!(other.rows.len());
        line["similarity"] = json!(similarity);
        let mut kinds = vec![("exact", Some(self.exact))];
        kinds.extend(pairs.then_some(("shared", Some(self.shared))));
        kinds.push(("near", other.near.then_some(self.near)));
        line["share"] = json!(self.share());
        line["shares"] = json!({});
        for (kind, count) in kinds {
            line[kind] = json!(count);
            line["shares"][kind] = json!(count.map(|count| self.part(count)));
        }
        line["examples"] = json!(self.shown);
    }
}
