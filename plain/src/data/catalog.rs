use anyhow::{Context, Result};
use serde::Deserialize;

use super::columns::{Columns, Label};

/// A data set known by name: where its columns are and what its labels mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    pub title: String,
    pub text: Vec<String>,
    pub pair: Option<String>,
    pub label: Option<String>,
    /// Name of label i at i; none if the labels are taken as they come.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The splits that are files; `--carve` takes validation or test out of train where they are not among them.
    pub splits: Vec<String>,
    /// The splits without labels.
    #[serde(default)]
    pub unlabelled: Vec<String>,
    /// The corpus for domain-adaptive pretraining.
    pub domain: Option<Domain>,
    /// Rows of one value in this column must not be divided between splits.
    pub group: Option<String>,
    pub licence: String,
    pub citation: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Domain {
    pub data: String,
    pub split: String,
}

/// Every data set known by name.
pub fn catalog() -> Result<Vec<Entry>> {
    serde_json::from_str(include_str!("catalog.json")).context("catalog.json")
}

impl Entry {
    /// The columns of one of its splits.
    pub fn columns(&self, split: &str) -> Columns {
        let unlabelled = self.unlabelled.iter().any(|name| name == split);
        let label = match self.label.clone() {
            None => Label::None,
            Some(column) if unlabelled => Label::IfPresent(column),
            Some(column) => Label::Column(column),
        };
        let (text, pair, names) = (self.text.clone(), self.pair.clone(), self.labels.clone());
        Columns { text, pair, label, group: self.group.clone(), names }
    }
}

const HEADINGS: [&str; 7] = ["name", "splits", "text", "classes", "domain", "title", "licence"];

/// The catalog as a table, its columns aligned.
pub fn table() -> Result<String> {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(catalog()?.iter().map(Entry::cells));
    let width = |i: usize| rows.iter().map(|row| row[i].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |row: &[String; 7]| -> String {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    Ok(rows.iter().map(line).collect())
}

impl Entry {
    fn cells(&self) -> [String; 7] {
        let text = self.text.iter().chain(&self.pair).cloned().collect::<Vec<_>>().join(",");
        let classes = match (&self.label, self.labels.len()) {
            (None, _) => "-".into(),
            (Some(_), 0) => "as they come".into(),
            (Some(_), count) => count.to_string(),
        };
        let domain = self.domain.as_ref().map(|domain| format!("{}/{}", domain.data, domain.split));
        let domain = domain.unwrap_or("-".into());
        let (title, licence) = (self.title.clone(), self.licence.clone());
        [self.name.clone(), self.splits.join(","), text, classes, domain, title, licence]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_whole() {
        let all = catalog().unwrap();
        let find = |name: &str| all.iter().find(|entry| entry.name == name);
        for entry in &all {
            assert!(
                !entry.text.is_empty() && entry.splits.contains(&"train".into()),
                "{}",
                entry.name
            );
            assert!(entry.unlabelled.iter().all(|split| entry.splits.contains(split)));
            let domain = entry.domain.as_ref();
            assert!(domain.is_none_or(|d| find(&d.data).unwrap().splits.contains(&d.split)));
        }
    }
}
