use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::Example;
use super::batches::read_ahead;
use super::catalog::{Entry, catalog};
use super::columns::{Columns, Label};
use super::dedup::{DedupArgs, Dropped};
use super::labels::{LabelArgs, LabelKind};
use super::plan::{Plan, Source};
use super::read::{Format, Reading};
use super::select::{Cut, FoldArgs, Holdout, Selection, held};
use super::shelf::Shelf;
use super::skipped::Skipped;
use crate::flags::{part, usage};

/// What to read, and which of its rows.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("parts").args(["holdout", "folds", "carve"]).multiple(true)))]
pub struct Input {
    /// A data set of the catalog (see --list), a directory with the files of each split, or files: names, quoted
    /// patterns such as 'part-*.jsonl.gz', `-` for standard input; or org/name[@revision] on the hub
    #[arg(value_name = "DATA", default_value = "-")]
    pub source: Vec<String>,

    /// The split: train, validation, test, holdout, or another the data set has; `domain` is the corpus
    /// the catalog names for pretraining on the data set's domain; A+B is both, one after the other
    #[arg(long, default_value = "train")]
    pub split: String,

    /// Columns of the text, joined with a space; `a.b` is field b of column a [default: the catalog's, else `text`, else the only text column]
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    pub text: Vec<String>,

    /// Column of the second text, for tasks on pairs
    #[arg(long, value_name = "COL")]
    pub pair: Option<String>,

    /// Column of the label; `none` leaves labels out of what is written [default: the catalog's, else `label` if it is there]
    #[arg(long, value_name = "COL")]
    pub label: Option<String>,

    #[command(flatten)]
    pub labels: LabelArgs,

    #[command(flatten)]
    pub reading: Reading,

    /// Take a random sample of N rows, in the order of the source; a smaller N gives a part of the same sample
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,

    /// Leave this share of train out, or so many rows; the same call with --split holdout gives the rows left out
    #[arg(long, value_name = "SHARE|ROWS", group = "cut", value_parser = held)]
    pub holdout: Option<Cut>,

    #[command(flatten)]
    pub folds: FoldArgs,

    /// Leave the same share of every label out
    #[arg(long, requires = "cut")]
    pub stratify: bool,

    /// Keep rows of one value in this column together when splitting; a part may then be some rows short; `none` lets
    /// them fall apart [default: the catalog's]
    #[arg(long, value_name = "COL", requires = "parts")]
    pub group_by: Option<String>,

    /// Where the data set lacks a validation or a test split, take one of this share out of train, stratified by label where texts have one
    #[arg(long, value_name = "FRACTION", value_parser = |text: &str| part(text, 0.5))]
    pub carve: Option<f64>,

    #[command(flatten)]
    pub dedup: DedupArgs,

    /// Folder of data sets: DIR/NAME/SPLIT.{jsonl,csv,tsv,parquet,txt}[.gz|.zst] [default: $TAPT_DATA, else data]
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
    /// What labels are.
    pub kind: LabelKind,
    /// Data set, split, digests of the files, and how rows were chosen.
    pub source: Value,
    /// Rows left out by --skip-bad, counted as the examples are read.
    pub skipped: Skipped,
    /// What --dedup dropped, once the examples have been read.
    pub dropped: Option<Arc<Dropped>>,
    pub examples: Examples,
}

impl Dataset {
    /// The same, its first rows read already: as many as are worth keeping, until `enough` is set.
    pub fn read_ahead(self, enough: &AtomicBool) -> Self {
        Self { examples: read_ahead(self.examples, enough), ..self }
    }

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
            self.kind.write_row(&example?, out)?;
            rows += 1;
        }
        Ok(rows)
    }
}

impl Input {
    /// Opens the data; `dir` is the folder of data sets. Rows are read as the examples are.
    pub fn open(&self, dir: &Path) -> Result<Dataset> {
        self.labels.check(self.label.as_deref())?;
        let names: Vec<&str> = self.split.split('+').collect();
        let (mut plan, cut) = (Plan::default(), self.cut()?);
        let catalog = catalog(self.catalog.as_deref())?;
        for (i, name) in names.iter().enumerate() {
            ensure!(!names[..i].contains(name), usage(format!("--split: {name} is there twice")));
            let (source, selection) = self.part(name, cut, (dir, &catalog))?;
            plan.add(source, selection);
        }
        let dedup = self.dedup.start();
        let dropped = dedup.as_ref().map(|dedup| dedup.dropped.clone());
        let examples = plan.examples(self.limit, dedup, self.seed)?;
        Ok(Dataset {
            labels: plan.labels(),
            kind: self.labels.kind(),
            source: self.describe(&plan, dropped.as_deref())?,
            skipped: plan.skipped,
            dropped,
            examples,
        })
    }

    /// The same flags for the rows of another file: all of them, `text` or what --text says, no labels.
    pub fn of_file(&self, path: &Path, pairs: bool) -> Self {
        let pair = || self.pair.clone().unwrap_or("pair".into());
        Self {
            source: vec![path.display().to_string()],
            split: "train".into(),
            pair: pairs.then(pair),
            label: Some("none".into()),
            labels: LabelArgs::default(),
            reading: Reading {
                format: Format::of(path).or(self.reading.format),
                no_header: self.reading.no_header && Format::of(path).is_none_or(Format::is_table),
                ..self.reading.clone()
            },
            limit: None,
            holdout: None,
            folds: FoldArgs { folds: None, fold: None },
            group_by: None,
            dedup: DedupArgs { dedup: None, ..self.dedup },
            carve: None,
            ..self.clone()
        }
    }

    /// What is to be left out of train.
    fn cut(&self) -> Result<Option<Cut>> {
        Ok(self.holdout.or(self.folds.chosen()?))
    }

    /// Where the split called `name` is read, and which rows of it are taken.
    fn part(
        &self,
        name: &str,
        cut: Option<Cut>,
        (dir, catalog): (&Path, &[Entry]),
    ) -> Result<(Source, Selection)> {
        let mut shelf = Shelf::find(&self.source, dir, catalog)?;
        let mut base = if name == "holdout" { "train" } else { name }.to_owned();
        if name == "holdout" && cut.is_none() {
            let cure = "give the share of the call that took the train part: --holdout SHARE";
            bail!(usage("--split holdout goes with --holdout or --folds").hint(cure));
        }
        let foreign = base == "domain" && !(shelf.entry.is_none() && shelf.has("domain"));
        if foreign {
            (shelf, base) = shelf.domain(dir, catalog)?;
        }
        let selection = match name {
            "domain" => Selection { carve: None, holdout: None, seed: self.seed },
            _ => self.selection(&shelf, &base, cut, name == "holdout"),
        };
        let carved = selection.carve.is_some();
        let split = if carved { "train".to_owned() } else { base };
        let columns = self.columns(&shelf, &split, &selection);
        let mut columns = columns.named(shelf.classes(&split, &self.reading)?);
        if name == "domain" && columns.kind != LabelKind::Class {
            columns.label = Label::None;
        }
        let source = Source { shelf, split, columns, reading: self.reading.clone() };
        Ok((source, selection))
    }

    /// Which rows of which split make the one asked for.
    fn selection(&self, shelf: &Shelf, base: &str, cut: Option<Cut>, held: bool) -> Selection {
        let lacks: Vec<&str> =
            ["validation", "test"].into_iter().filter(|s| !shelf.has(s)).collect();
        let part = lacks.iter().position(|&split| split == base).map(|i| i + 1);
        let part = part.or_else(|| (base == "train" && !lacks.is_empty()).then_some(0));
        let carve = self.carve.zip(part).map(|(share, part)| (vec![share; lacks.len()], part));
        let holdout = cut.filter(|_| base == "train");
        let holdout = holdout.map(|cut| Holdout { cut, held, stratify: self.stratify });
        Selection { carve, holdout, seed: self.seed }
    }

    /// The catalog's columns, with what the flags say instead.
    fn columns(&self, shelf: &Shelf, split: &str, selection: &Selection) -> Columns {
        let mut columns = shelf.columns(split);
        let Selection { carve, holdout, .. } = selection;
        let by_label = carve.is_some() || holdout.as_ref().is_some_and(|holdout| holdout.stratify);
        if !self.text.is_empty() {
            columns.text = self.text.clone();
        }
        columns.pair = self.pair.clone().or(columns.pair);
        columns.kind = self.labels.kind();
        let catalogued = shelf.entry.as_ref().and_then(|entry| entry.label.as_ref());
        match self.label.as_deref() {
            None => {}
            Some("none") if by_label => columns.unlabelled = true,
            Some("none") => columns = Columns { label: Label::None, names: Vec::new(), ..columns },
            Some(column) => {
                columns.label = Label::Column(column.into());
                columns.names.retain(|_| catalogued.is_some_and(|label| label == column));
            }
        }
        columns.group = self
            .group_by
            .clone()
            .or(columns.group)
            .filter(|by| by != "none" && !selection.is_all());
        columns
    }

    fn describe(&self, plan: &Plan, dropped: Option<&Dropped>) -> Result<Value> {
        let named = self.source.join(" ");
        let data = if self.source.len() > 1 { json!(self.source) } else { json!(named) };
        let mut source = json!({"data": data, "split": self.split});
        let mut say = |key: &str, value: Value| source[key] = value;
        let foreign = plan.sources.iter().find(|source| source.shelf.name != named);
        foreign.iter().for_each(|source| say("domain", json!(source.shelf.name)));
        plan.digests()?.into_iter().for_each(|(key, digests)| say(key, digests));
        if self.reading.skip_bad {
            say("skip_bad", json!(true));
            plan.count_bad()?.into_iter().for_each(|count| say("skipped", json!(count)));
        }
        if let (Some(mut dedup), Some(dropped)) = (self.dedup.to_json(), dropped) {
            let counted = dropped.to_json();
            // Rows that are read once have not been counted yet.
            if counted["rows"] != 0 {
                dedup["dropped"] = counted;
            }
            say("dedup", dedup);
        }
        if self.limit.is_none() && plan.parts.iter().all(|part| part.selection.is_all()) {
            return Ok(source);
        }
        say("seed", json!(self.seed));
        let carved = plan.parts.iter().any(|part| part.selection.carve.is_some());
        self.carve.filter(|_| carved).iter().for_each(|share| say("carve", json!(share)));
        let group = plan.sources.iter().find_map(|source| source.columns.group.as_ref());
        group.iter().for_each(|column| say("group_by", json!(column)));
        self.limit.iter().for_each(|limit| say("limit", json!(limit)));
        let holdout = plan.parts.iter().find_map(|part| part.selection.holdout.as_ref());
        let held = holdout.map(|holdout| holdout.to_json());
        held.iter().flat_map(Value::as_object).flatten().for_each(|(k, v)| say(k, v.clone()));
        Ok(source)
    }
}
