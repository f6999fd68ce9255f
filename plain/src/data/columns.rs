//! Records to examples: which columns hold the text, its pair and its label.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use super::Example;
use super::labels::{LabelKind, SKIP};
use super::parquet::Classes;
use super::read::{Record, Records};
use super::skipped::Skipped;
use crate::flags::{Failure, fault};

/// Which columns to take, before the first record tells what there is.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Joined with a space; none means `text`, or the only column of strings.
    pub text: Vec<String>,
    pub pair: Option<String>,
    pub label: Label,
    pub kind: LabelKind,
    /// Labels are read for splits to look at, and the examples go without.
    pub unlabelled: bool,
    pub group: Option<String>,
    /// Names of the classes, the integer label i being names[i]; none if the file's own are taken.
    pub names: Vec<String>,
}

/// Which column is the label.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    None,
    /// This one, where the first record has it.
    IfPresent(String),
    /// The first record lacks it, so no other may have a label there.
    Absent(String),
    Column(String),
}

impl Default for Label {
    fn default() -> Self {
        Self::IfPresent("label".into())
    }
}

/// An example with what a split looks at beside it.
#[derive(Debug, Clone)]
pub struct Row {
    pub example: Example,
    /// The label, where the example goes without it.
    pub stratum: Option<String>,
    pub group: Option<String>,
}

pub type Rows = Box<dyn Iterator<Item = Result<Row>> + Send>;

/// Turns records into rows, numbered from 0. Errors name file, line and cause; with `skipped`, rows that cannot be read
/// are left out and counted there. A header is read like a row, and fails where a column is missing, but gives none.
pub fn rows(records: Records, mut columns: Columns, skipped: Option<Skipped>) -> Rows {
    let (mut settled, mut count) = (false, 0);
    let read = move |record: Result<Record>| {
        let Record { name, line, cells, is_header } = record?;
        let row = cells.map_err(leave_out).and_then(|cells| {
            if !settled {
                columns.settle(&cells)?;
                settled = true;
            }
            columns.row(&cells, count)
        });
        let row = row.with_context(|| format!("{name}:{line}"));
        if is_header {
            return row.map(|_| None);
        }
        count += 1;
        Ok(Some(row))
    };
    let rows = records.map(read).filter_map(Result::transpose);
    match skipped {
        Some(skipped) => skipped.leave_out(rows),
        None => Box::new(rows.map(Result::flatten)),
    }
}

/// The cure of a row that cannot be read, where it has no better one.
fn leave_out(error: anyhow::Error) -> anyhow::Error {
    match error.is::<Failure>() {
        true => error,
        false => fault(format!("{error:#}"), SKIP),
    }
}

impl Columns {
    /// Takes the names a file gives its classes, where no others are known.
    pub fn named(mut self, mut classes: Classes) -> Self {
        if let Label::Column(column) | Label::IfPresent(column) = &self.label
            && self.names.is_empty()
        {
            self.names = classes.remove(column).unwrap_or_default();
        }
        self
    }

    /// Makes what was left open definite: the text column, and whether there is a label.
    fn settle(&mut self, first: &Map<String, Value>) -> Result<()> {
        if self.text.is_empty() {
            self.text = vec![default_text(first)?];
        }
        if let Label::IfPresent(column) = &self.label {
            let named = [column.as_str()];
            let mut may_be = if column == "label" { self.kind.columns() } else { &named }.iter();
            let found = may_be.find(|name| find(first, name).is_some());
            self.label = match found {
                Some(name) => Label::Column((*name).to_owned()),
                None if self.kind == LabelKind::Class => Label::Absent(column.clone()),
                None => bail!(no_label(column, first)),
            };
        }
        Ok(())
    }

    fn row(&self, record: &Map<String, Value>, row: u64) -> Result<Row> {
        let texts: Vec<String> =
            self.text.iter().map(|column| text(record, column)).collect::<Result<_>>()?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|t| !t.is_empty()).collect();
        let pair = self.pair.as_ref().map(|column| text(record, column)).transpose()?;
        let label = match &self.label {
            Label::Column(column) | Label::Absent(column) if self.unlabelled => {
                find(record, column).and_then(|value| self.label(value).ok().flatten())
            }
            Label::Column(column) => self.label(cell(record, column)?)?,
            Label::Absent(column) => self.absent(record, column)?,
            Label::IfPresent(_) | Label::None => None,
        };
        let group = self.group.as_ref().map(|column| text(record, column)).transpose()?;
        let (label, stratum) = if self.unlabelled { (None, label) } else { (label, None) };
        Ok(Row { example: Example { text: texts.join(" "), pair, label, row }, stratum, group })
    }

    /// The label of a row.
    fn label(&self, value: &Value) -> Result<Option<String>> {
        self.kind.read(value, &|value| self.name(value))
    }

    /// The name of the class; none for null, an empty cell and, where names are known, -1.
    fn name(&self, value: &Value) -> Result<Option<String>> {
        let label = match value {
            Value::String(label) => label.clone(),
            Value::Bool(label) => label.to_string(),
            Value::Number(label) if !label.is_f64() => label.to_string(),
            Value::Null => String::new(),
            other => bail!("label {other} is not a string, an integer or a bool"),
        };
        match label.as_str() {
            "" => Ok(None),
            _ if self.names.is_empty() || self.names.contains(&label) => Ok(Some(label)),
            "-1" => Ok(None),
            number => {
                let name = number.parse().ok().and_then(|i: usize| self.names.get(i));
                let name =
                    name.ok_or_else(|| anyhow!("unknown label {value}; {}", self.known()))?;
                Ok(Some(name.clone()))
            }
        }
    }

    /// No label, and an error where there is one after all.
    fn absent(&self, record: &Map<String, Value>, column: &str) -> Result<Option<String>> {
        match find(record, column).map(|value| self.label(value)) {
            Some(label) if label.as_ref().is_ok_and(Option::is_none) => label,
            Some(_) => Err(fault(
                format!("it has a `{column}`, but the first row has none"),
                "--label none leaves labels out",
            )),
            None => Ok(None),
        }
    }

    fn known(&self) -> String {
        format!("labels are 0 to {}, {}", self.names.len() - 1, self.names.join(", "))
    }
}

fn default_text(first: &Map<String, Value>) -> Result<String> {
    if first.contains_key("text") {
        return Ok("text".into());
    }
    let strings = first.iter().filter(|(name, value)| value.is_string() && *name != "label");
    match strings.map(|(name, _)| name).collect::<Vec<_>>()[..] {
        [only] => Ok(only.clone()),
        _ => {
            Err(fault(format!("no column `text`; {}", there_are(first)), "--text COL chooses one"))
        }
    }
}

fn cell<'a>(record: &'a Map<String, Value>, column: &str) -> Result<&'a Value> {
    find(record, column).ok_or_else(|| anyhow!("no column `{column}`; {}", there_are(record)))
}

/// The value of a column, or of a field in it by its path, `a.b`. The longest name that is there wins.
fn find<'a>(record: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    record.get(path).or_else(|| {
        path.rmatch_indices('.').find_map(|(dot, _)| {
            let inner = record.get(&path[..dot])?.as_object()?;
            find(inner, &path[dot + 1..])
        })
    })
}

fn no_label(column: &str, first: &Map<String, Value>) -> anyhow::Error {
    fault(format!("no column `{column}`; {}", there_are(first)), "--label COL chooses one")
}

fn there_are(record: &Map<String, Value>) -> String {
    let names: Vec<String> = record.keys().map(|name| format!("`{name}`")).collect();
    format!("columns are {}", names.join(", "))
}

fn text(record: &Map<String, Value>, column: &str) -> Result<String> {
    match cell(record, column)? {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => bail!("column `{column}` is not text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::iter;

    fn at(line: u64, record: Value) -> Record {
        Record {
            name: "f".into(),
            line,
            cells: Ok(record.as_object().unwrap().clone()),
            is_header: false,
        }
    }

    fn first(columns: &Columns, record: Value) -> Result<Example> {
        let mut rows = rows(Box::new(iter::once(Ok(at(7, record)))), columns.clone(), None);
        rows.next().unwrap().map(|row| row.example)
    }

    fn cause(columns: &Columns, record: Value) -> String {
        format!("{:#}", first(columns, record).unwrap_err())
    }

    #[test]
    fn defaults_take_text_and_label() {
        let open = Columns::default();
        let got = first(&open, json!({"label": 3, "text": "a"})).unwrap();
        assert_eq!((got.text.as_str(), got.label.as_deref()), ("a", Some("3")));
        assert_eq!(first(&open, json!({"n": 3, "body": "b", "label": "x"})).unwrap().text, "b");
        assert!(cause(&open, json!({"a": "b", "c": "d"})).starts_with("f:7: no column `text`; "));
    }

    #[test]
    fn the_first_record_decides_whether_there_are_labels() {
        let later = |label: Value| {
            let records = [json!({"text": "a"}), json!({"text": "b", "label": label})];
            let records =
                [1, 2].into_iter().zip(records).map(|(line, record)| Ok(at(line, record)));
            rows(Box::new(records), Columns::default(), None).nth(1).unwrap()
        };
        let cause = format!("{:#}", later(json!("x")).unwrap_err());
        assert_eq!(cause, "f:2: it has a `label`, but the first row has none");
        assert_eq!(later(Value::Null).unwrap().example.label, None);
    }

    #[test]
    fn names_give_integers_their_meaning() {
        let names = vec!["neg".to_owned(), "pos".to_owned()];
        let named = Columns { names, ..Default::default() };
        let label = |label| first(&named, json!({"text": "", "label": label})).unwrap().label;
        assert_eq!(label(json!(1)).as_deref(), Some("pos"));
        assert_eq!(label(json!("neg")).as_deref(), Some("neg"));
        assert_eq!(label(json!(-1)), None);
        let error = cause(&named, json!({"text": "", "label": 2}));
        assert_eq!(error, "f:7: unknown label 2; labels are 0 to 1, neg, pos");
    }

    #[test]
    fn texts_join_and_missing_columns_are_named() {
        let text = vec!["a".to_owned(), "b".to_owned()];
        let two = Columns { text, ..Default::default() };
        assert_eq!(first(&two, json!({"a": "x", "b": "y"})).unwrap().text, "x y");
        assert_eq!(first(&two, json!({"a": "x", "b": null})).unwrap().text, "x");
        assert_eq!(cause(&two, json!({"a": "x"})), "f:7: no column `b`; columns are `a`");
    }
}
