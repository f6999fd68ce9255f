use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::Example;
use super::catalog::catalog;
use super::columns::{Columns, Label, Row, Rows, rows};
use super::read::Format;
use super::select::{Holdout, Selection, keys};
use super::shelf::Shelf;
use crate::flags::{part, usage};

/// What to read, and which of its rows.
#[derive(Debug, Clone, clap::Args)]
pub struct Input {
    /// A data set of the catalog (see --list), a file, a directory with one file a split, `-` for standard input, or
    /// org/name[@revision] on the hub
    #[arg(value_name = "DATA", default_value = "-")]
    pub source: String,

    /// The split: train, validation, test, holdout, or another the data set has; `domain` is the corpus
    /// the catalog names for pretraining on the data set's domain
    #[arg(long, default_value = "train")]
    pub split: String,

    /// Columns of the text, joined with a space [default: the catalog's, else `text`, else the only text column]
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    pub text: Vec<String>,

    /// Column of the second text, for tasks on pairs
    #[arg(long, value_name = "COL")]
    pub pair: Option<String>,

    /// Column of the label; `none` leaves labels out [default: the catalog's, else `label` if it is there]
    #[arg(long, value_name = "COL")]
    pub label: Option<String>,

    /// How rows are written [default: by the file's ending, else jsonl if the first byte is `{`, else text]
    #[arg(long)]
    pub format: Option<Format>,

    /// CSV and TSV have no header row: columns are called 0, 1, …
    #[arg(long)]
    pub no_header: bool,

    /// Take a random sample of N rows, in the order of the source; a smaller N gives a part of the same sample
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,

    /// Leave this share of train out; the same call with --split holdout gives the rows left out
    #[arg(long, value_name = "FRACTION", value_parser = |text: &str| part(text, 1.0))]
    pub holdout: Option<f64>,

    /// Leave the same share of every label out
    #[arg(long, requires = "holdout")]
    pub stratify: bool,

    /// Keep rows of one value in this column together when splitting; a part may then be some rows short
    #[arg(long, value_name = "COL")]
    pub group_by: Option<String>,

    /// Where the data set lacks a validation or a test split, take one of this share out of train, stratified by label
    #[arg(long, value_name = "FRACTION", value_parser = |text: &str| part(text, 0.5))]
    pub carve: Option<f64>,

    /// Folder of data sets: DIR/NAME/SPLIT.{jsonl,csv,tsv,txt}[.gz] [default: $TAPT_DATA, else data]
    #[arg(long = "data", value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// A catalog of your own, read before the built-in one
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,

    /// Seed of every choice of rows
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

pub type Examples = Box<dyn Iterator<Item = Result<Example>> + Send>;

/// A split opened: its examples, and what is known of them before they are read.
pub struct Dataset {
    /// Names of the classes in their order; none if the labels are taken as they come.
    pub labels: Vec<String>,
    /// Data set, split, digest of the file, and how rows were chosen.
    pub source: Value,
    /// What the user should hear.
    pub notes: Vec<String>,
    pub examples: Examples,
}

impl Dataset {
    /// Every text, the second of a pair after the first.
    pub fn texts(self) -> impl Iterator<Item = Result<String>> + Send {
        self.examples.flat_map(|example| match example {
            Ok(Example { text, pair, .. }) => std::iter::once(text).chain(pair).map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// Writes the examples as JSON lines; returns how many there are.
    pub fn write_rows(self, out: &mut impl Write) -> Result<u64> {
        let mut rows = 0;
        for example in self.examples {
            serde_json::to_writer(&mut *out, &example?).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
            rows += 1;
        }
        Ok(rows)
    }
}

impl Input {
    /// Opens the data; `dir` is the folder of data sets. Rows are read as the examples are.
    pub fn open(&self, dir: &Path) -> Result<Dataset> {
        let mut shelf = Shelf::find(&self.source, dir, catalog(self.catalog.as_deref())?)?;
        let mut base = if self.split == "holdout" { "train" } else { &self.split }.to_owned();
        if self.split == "holdout" && self.holdout.is_none() {
            let cure = "give the share of the call that took the train part: --holdout FRACTION";
            bail!(usage("--split holdout goes with --holdout").hint(cure));
        }
        if base == "domain" && !(shelf.entry.is_none() && shelf.has("domain")) {
            (shelf, base) = shelf.domain(dir)?;
        }
        let selection = match self.split.as_str() {
            "domain" => Selection { carve: None, holdout: None, ..self.selection(&shelf, &base) },
            _ => self.selection(&shelf, &base),
        };
        let base = if selection.carve.is_some() { "train" } else { &base };
        let columns = self.columns(&shelf, base, selection.carve.is_some());
        Ok(Dataset {
            labels: columns.names.clone(),
            source: self.describe(&shelf, &selection, shelf.digest(base)?),
            notes: self.notes(&shelf),
            examples: self.examples(&shelf, base, &columns, &selection)?,
        })
    }

    /// Which rows of which split make the one asked for.
    fn selection(&self, shelf: &Shelf, base: &str) -> Selection {
        let lacks: Vec<&str> =
            ["validation", "test"].into_iter().filter(|s| !shelf.has(s)).collect();
        let part = lacks.iter().position(|&split| split == base).map(|i| i + 1);
        let part = part.or_else(|| (base == "train" && !lacks.is_empty()).then_some(0));
        let carve = self.carve.zip(part).map(|(share, part)| (vec![share; lacks.len()], part));
        let held = self.split == "holdout";
        let (stratify, grouped) = (self.stratify, self.group_by.is_some());
        let holdout = self.holdout.filter(|_| base == "train");
        let holdout = holdout.map(|share| Holdout { share, held, stratify, grouped });
        Selection { carve, holdout, limit: self.limit, seed: self.seed }
    }

    /// The catalog's columns, with what the flags say instead.
    fn columns(&self, shelf: &Shelf, split: &str, carved: bool) -> Columns {
        let mut columns = shelf.columns(split);
        if !self.text.is_empty() {
            columns.text = self.text.clone();
        }
        columns.pair = self.pair.clone().or(columns.pair);
        let catalogued = shelf.entry.as_ref().and_then(|entry| entry.label.as_ref());
        match self.label.as_deref() {
            None => {}
            Some("none") => columns = Columns { label: Label::None, names: Vec::new(), ..columns },
            Some(column) => {
                columns.label = Label::Column(column.into());
                columns.names.retain(|_| catalogued.is_some_and(|label| label == column));
            }
        }
        columns.group = self.group_by.clone().or(columns.group.filter(|_| carved));
        columns
    }

    fn examples(
        &self,
        shelf: &Shelf,
        split: &str,
        columns: &Columns,
        selection: &Selection,
    ) -> Result<Examples> {
        let open = || -> Result<Rows> {
            let (name, records) = shelf.open(split, self.format, !self.no_header)?;
            Ok(rows(name, records, columns.clone()))
        };
        let example = |row: Result<Row>| row.map(|row| row.example);
        if selection.is_all() {
            return Ok(Box::new(open()?.map(example)));
        }
        let (keys, again): (_, Rows) = if shelf.reads_once() {
            let all: Vec<Row> = open()?.collect::<Result<_>>()?;
            (keys(all.iter().cloned().map(Ok))?, Box::new(all.into_iter().map(Ok)))
        } else {
            (keys(open()?)?, open()?)
        };
        let chosen = selection.choose(&keys)?;
        Ok(Box::new(
            again
                .zip(chosen)
                .filter(|(row, keep)| *keep || row.is_err())
                .map(move |(row, _)| example(row)),
        ))
    }

    fn describe(&self, shelf: &Shelf, selection: &Selection, digest: Option<String>) -> Value {
        let mut source = json!({"data": self.source, "split": self.split});
        let mut say = |key: &str, value: Value| source[key] = value;
        if shelf.name != self.source {
            say("domain", json!(shelf.name));
        }
        digest.into_iter().for_each(|digest| say("sha256", json!(digest)));
        if selection.is_all() {
            return source;
        }
        say("seed", json!(self.seed));
        self.carve
            .filter(|_| selection.carve.is_some())
            .iter()
            .for_each(|share| say("carve", json!(share)));
        self.group_by.iter().for_each(|column| say("group_by", json!(column)));
        self.limit.iter().for_each(|limit| say("limit", json!(limit)));
        if let Some(holdout) = &selection.holdout {
            say("holdout", json!(holdout.share));
            say("stratify", json!(holdout.stratify));
        }
        source
    }

    fn notes(&self, shelf: &Shelf) -> Vec<String> {
        let group = shelf.entry.as_ref().and_then(|entry| entry.group.as_ref());
        let leak = group.filter(|_| self.holdout.is_some() && self.group_by.is_none());
        let note = |group| {
            format!(
                "rows of one {group} may fall on both sides; --group-by {group} keeps them together"
            )
        };
        leak.map(note).into_iter().collect()
    }
}
