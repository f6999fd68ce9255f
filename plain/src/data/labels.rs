//! What labels are read as, and the text they travel as: a name, a JSON list of names, or a number.

use std::collections::BTreeSet;
use std::io::{self, Write};

use anyhow::{Result, ensure};
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use super::Example;
use crate::flags::{fault, usage};

/// What labels are, as flags.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LabelArgs {
    /// Texts have any number of labels: JSON lists of names, or names with SEPARATOR (default a comma) between them
    #[arg(long, value_name = "SEPARATOR", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = ",", value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["regression", "stratify"])]
    pub multi_label: Option<String>,

    /// Labels are numbers to be predicted, not names of classes
    #[arg(long, conflicts_with = "stratify")]
    pub regression: bool,
}

/// What labels are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LabelKind {
    #[default]
    Class,
    /// Names, between separators where they are no list.
    Classes(String),
    Number,
}

/// The cure of a row that has no better one.
pub const SKIP: &str = "--skip-bad leaves out rows that cannot be read";
const LISTS: &str = "--multi-label reads lists of names";
const NUMBERS: &str = "--regression is for labels that are numbers";

impl LabelArgs {
    /// Fails where there are no labels for a flag to speak of.
    pub fn check(&self, label: Option<&str>) -> Result<()> {
        let none = label == Some("none") && self.kind() != LabelKind::Class;
        ensure!(!none, usage("--label none: there is nothing for --multi-label or --regression"));
        Ok(())
    }

    pub fn kind(&self) -> LabelKind {
        match &self.multi_label {
            Some(separator) => LabelKind::Classes(separator.clone()),
            None if self.regression => LabelKind::Number,
            None => LabelKind::Class,
        }
    }
}

impl LabelKind {
    /// The columns that may have the label where none is named.
    pub fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Class | Self::Number => &["label"],
            Self::Classes(_) => &["label", "labels"],
        }
    }

    /// The label in a cell, whose names of classes go through `name`; none for null and, where texts have one, an
    /// empty cell.
    pub fn read(
        &self,
        cell: &Value,
        name: &dyn Fn(&Value) -> Result<Option<String>>,
    ) -> Result<Option<String>> {
        match (self, cell) {
            (_, Value::Null) => Ok(None),
            (Self::Class, Value::Array(_)) => Err(fault(format!("label {cell} is a list"), LISTS)),
            (Self::Class, Value::Number(number)) if number.is_f64() => {
                let cause = format!("label {cell} is not a string, an integer or a bool");
                Err(fault(cause, "--regression reads numbers to be predicted"))
            }
            (Self::Class, _) => name(cell),
            (Self::Number, _) => number(cell),
            (Self::Classes(_), Value::Array(all)) => names(all.iter().cloned(), name),
            (Self::Classes(separator), Value::String(all)) => {
                names(separated(all, separator)?.into_iter(), name)
            }
            (Self::Classes(_), one) => names([one.clone()].into_iter(), name),
        }
    }

    /// The label that is this name alone; none where labels are numbers.
    pub fn label(&self, name: String) -> Option<String> {
        match self {
            Self::Class => Some(name),
            Self::Classes(_) => Some(json!([name]).to_string()),
            Self::Number => None,
        }
    }

    /// The names in a label.
    pub fn names(&self, label: &str) -> Vec<String> {
        match self {
            Self::Class => vec![label.to_owned()],
            Self::Classes(_) => serde_json::from_str(label).unwrap_or_default(),
            Self::Number => Vec::new(),
        }
    }

    /// Writes an example as a line of JSON, a list as a list and a number as a number.
    pub fn write_row(&self, example: &Example, out: &mut impl Write) -> Result<()> {
        match (&example.label, self) {
            (None, _) | (_, Self::Class) => serde_json::to_writer(&mut *out, example),
            (Some(label), _) => {
                let mut row = serde_json::to_value(example)?;
                row["label"] = serde_json::from_str(label)?;
                serde_json::to_writer(&mut *out, &row)
            }
        }
        .map_err(io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    }
}

/// The names in a cell: between separators, or as the JSON of a list.
fn separated(cell: &str, separator: &str) -> Result<Vec<Value>> {
    let cell = cell.trim();
    if cell.starts_with('[') && cell.ends_with(']') {
        let cause = || format!("label {cell:?} is no JSON list, nor names between {separator:?}");
        return serde_json::from_str(cell).map_err(|_| fault(cause(), "[\"a\",\"b\"] is one"));
    }
    let parts = cell.split(separator).map(str::trim);
    Ok(parts.filter(|part| !part.is_empty()).map(Value::from).collect())
}

/// A JSON list of names, each once, in order.
fn names(
    all: impl Iterator<Item = Value>,
    name: &dyn Fn(&Value) -> Result<Option<String>>,
) -> Result<Option<String>> {
    let none = |value: &Value| fault(format!("label {value} is no name"), SKIP);
    let known = |value: Value| name(&value)?.ok_or_else(|| none(&value));
    let names: BTreeSet<String> = all.map(known).collect::<Result<_>>()?;
    Ok(Some(serde_json::to_string(&names)?))
}

/// A number that a shard can hold, in digits.
fn number(cell: &Value) -> Result<Option<String>> {
    let value: Option<f64> = match cell {
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    match value {
        Some(value) if (value as f32).is_finite() => Ok(Some(value.to_string())),
        Some(_) => Err(fault(format!("label {cell} is not a finite number in 32 bits"), SKIP)),
        None => Err(fault(format!("label {cell} is not a number"), NUMBERS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(kind: &LabelKind, cell: Value) -> Result<Option<String>> {
        kind.read(&cell, &|value| Ok(value.as_str().filter(|s| !s.is_empty()).map(str::to_owned)))
    }

    #[test]
    fn lists_and_separated_names_are_the_same() {
        let kind = LabelKind::Classes(";".into());
        let wanted = Some(r#"["a","b c"]"#.to_owned());
        for same in [json!(["b c", "a", "b c"]), json!("b c; a;"), json!(r#"["b c", "a"]"#)] {
            assert_eq!(read(&kind, same).unwrap(), wanted);
        }
        for none in [json!(""), json!([]), json!("[]"), json!(" ; ")] {
            assert_eq!(read(&kind, none).unwrap(), Some("[]".to_owned()));
        }
        assert_eq!(read(&kind, json!(null)).unwrap(), None);
        for bad in [json!(["a", ""]), json!([null]), json!("['a', 'b']")] {
            assert!(read(&kind, bad).is_err());
        }
        assert!(read(&LabelKind::Class, json!(["a"])).is_err());
    }

    #[test]
    fn numbers_are_numbers() {
        let kind = LabelKind::Number;
        for (cell, wanted) in [
            (json!(3), "3"),
            (json!(" 2.5 "), "2.5"),
            (json!("+.5"), "0.5"),
            (json!("1e3"), "1000"),
        ] {
            assert_eq!(read(&kind, cell).unwrap().as_deref(), Some(wanted));
        }
        assert_eq!(read(&kind, json!("")).unwrap(), None);
        for bad in ["x", "nan", "inf", "-Infinity", "1e39", "1,5"] {
            assert!(read(&kind, json!(bad)).is_err(), "{bad}");
        }
        for bad in [json!(true), json!([1]), json!(1e39)] {
            assert!(read(&kind, bad).is_err());
        }
    }

    proptest! {
        /// What was written is read again as the same.
        #[test]
        fn rows_are_read_again(names: Vec<String>, number: f32) {
            let kinds = [
                (LabelKind::Classes(",".into()), json!(names.iter().filter(|n| !n.is_empty()).collect::<Vec<_>>())),
                (LabelKind::Number, json!(if number.is_finite() { number } else { 0.0 })),
            ];
            for (kind, cell) in kinds {
                let label = read(&kind, cell).unwrap();
                let (text, pair) = ("t".to_owned(), None);
                let mut line = Vec::new();
                kind.write_row(&Example { text, pair, label: label.clone(), row: 3 }, &mut line).unwrap();
                let row: Value = serde_json::from_slice(&line).unwrap();
                prop_assert_eq!(read(&kind, row["label"].clone()).unwrap(), label);
            }
        }
    }
}
