//! The data sets known by name: those of catalog.json, and of a file of the user's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::columns::{Columns, Label};
use super::remote::Home;
use crate::hub::{Kind, Repo};

/// A data set known by name: where its columns are and what its labels mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    #[serde(default)]
    pub title: String,
    /// Joined with a space; none if the file's own `text`, or only column of strings, is it.
    #[serde(default)]
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
    /// Where it is downloaded from.
    pub hub: Option<Home>,
    #[serde(default)]
    pub licence: String,
    #[serde(default)]
    pub citation: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    pub data: String,
    pub split: String,
}

/// Every data set known by name, those of `file` before the built-in ones of the same name.
pub fn catalog(file: Option<&Path>) -> Result<Vec<Entry>> {
    let own = match file {
        None => Vec::new(),
        Some(file) => {
            let named = || file.display().to_string();
            let text = fs::read_to_string(file).with_context(named)?;
            entries(&text).with_context(named)?
        }
    };
    let mut all = entries(include_str!("catalog.json")).context("catalog.json")?;
    all.retain(|entry| own.iter().all(|own| own.name != entry.name));
    all.splice(0..0, own);
    let known: BTreeSet<_> = all.iter().flat_map(Entry::places).collect();
    let lost = all.iter().find(|entry| {
        entry.domain.as_ref().is_some_and(|d| !known.contains(&(d.data.as_str(), d.split.as_str())))
    });
    if let Some((entry, file)) = lost.zip(file) {
        let domain = entry.domain.as_ref().map(|d| format!("{}/{}", d.data, d.split));
        bail!(
            "{}: entry `{}`: domain: there is no {}",
            file.display(),
            entry.name,
            domain.unwrap_or_default()
        );
    }
    Ok(all)
}

fn entries(text: &str) -> Result<Vec<Entry>> {
    let list: Vec<Value> =
        serde_json::from_str(text).context("a JSON list of entries is wanted")?;
    let mut names = BTreeSet::new();
    list.into_iter()
        .enumerate()
        .map(|(at, value)| {
            let name =
                value["name"].as_str().map_or(format!("{}", at + 1), |name| format!("`{name}`"));
            let entry = entry(value).with_context(|| format!("entry {name}"))?;
            ensure!(names.insert(entry.name.clone()), "entry {name}: name: it is there twice");
            Ok(entry)
        })
        .collect()
}

fn entry(value: Value) -> Result<Entry> {
    let entry: Entry = serde_path_to_error::deserialize(value).map_err(keyed)?;
    entry.check().map(|()| entry)
}

fn keyed(error: serde_path_to_error::Error<serde_json::Error>) -> anyhow::Error {
    let (key, cause) = (error.path().to_string(), error.inner().to_string());
    if key == "." { anyhow!(cause) } else { anyhow!("{key}: {cause}") }
}

impl Entry {
    /// Fails where an entry contradicts itself; names the key.
    fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let fine = !self.name.is_empty() && self.name.chars().all(plain);
        ensure!(fine, "name: letters, digits, `-`, `_` and `.` are wanted, not {:?}", self.name);
        ensure!(!self.splits.is_empty(), "splits: there is none");
        let known = |split: &&String| !self.splits.contains(split);
        if let Some(split) = self.unlabelled.iter().find(known) {
            bail!("unlabelled: `{split}` is not among the splits");
        }
        ensure!(
            self.labels.is_empty() || self.label.is_some(),
            "labels: no `label` names their column"
        );
        let Some(home) = &self.hub else { return Ok(()) };
        ensure!(
            Repo::parse(Kind::Data, &home.id).is_some(),
            "hub.id: {:?} is not org/name",
            home.id
        );
        if let Some(split) = home.files.keys().find(known) {
            bail!("hub.files: `{split}` is not among the splits");
        }
        Ok(())
    }

    /// Its splits, as `domain` names them.
    fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        self.splits.iter().map(|split| (self.name.as_str(), split.as_str()))
    }

    /// The columns of one of its splits.
    pub fn columns(&self, split: &str) -> Columns {
        let unlabelled = self.unlabelled.iter().any(|name| name == split);
        let label = match self.label.clone() {
            None => Label::None,
            Some(column) if unlabelled => Label::IfPresent(column),
            Some(column) => Label::Column(column),
        };
        let (text, pair, names) = (self.text.clone(), self.pair.clone(), self.labels.clone());
        let group = self.group.clone();
        Columns { text, pair, label, group, names, ..Columns::default() }
    }
}

/// Characters of a line, at most, unless a word is longer.
const WIDTH: usize = 100;
const INDENT: usize = 12;

/// The catalog for the eye: a block for each entry.
pub fn listing(file: Option<&Path>) -> Result<String> {
    Ok(catalog(file)?.iter().map(Entry::block).collect::<Vec<_>>().join("\n"))
}

impl Entry {
    /// Name, title, and what else is known, a line each.
    fn block(&self) -> String {
        let labels = match (&self.label, self.labels.is_empty()) {
            (None, _) => String::new(),
            (Some(_), true) => "as they come".into(),
            (Some(_), false) => self.labels.join(", "),
        };
        let domain = self.domain.as_ref().map(|domain| format!("{}/{}", domain.data, domain.split));
        let lines = [
            ("", self.title.clone()),
            ("splits", self.splits.join(", ")),
            ("text", self.text.join(", ")),
            ("pair", self.pair.clone().unwrap_or_default()),
            ("labels", labels),
            ("group", self.group.clone().unwrap_or_default()),
            ("domain", domain.unwrap_or_default()),
            ("hub", self.hub.as_ref().map(|home| home.id.clone()).unwrap_or_default()),
            ("licence", self.licence.clone()),
            ("citation", self.citation.clone()),
        ];
        let known = lines.iter().filter(|(_, text)| !text.is_empty());
        let lines = known.map(|(key, text)| wrapped(key, text));
        lines.fold(format!("{}\n", self.name), |block, lines| block + &lines)
    }
}

/// A key and its text, in lines of at most `WIDTH`; a text without a key stands under the name.
fn wrapped(key: &str, text: &str) -> String {
    let indent = if key.is_empty() { 2 } else { INDENT };
    let (mut lines, mut line) = (String::new(), format!("{:indent$}", format!("  {key}")));
    for word in text.split_whitespace() {
        let used = line.chars().count();
        if used > indent && used + word.chars().count() > WIDTH {
            lines += line.trim_end();
            line = format!("\n{:indent$}", "");
        }
        line += word;
        line += " ";
    }
    lines + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_whole() {
        let all = catalog(None).unwrap();
        let known: Vec<_> = all.iter().flat_map(Entry::places).collect();
        for entry in &all {
            assert!(entry.splits.contains(&"train".into()), "{}", entry.name);
            for said in [&entry.title, &entry.licence, &entry.citation] {
                assert!(!said.is_empty(), "{}", entry.name);
            }
            let domain = entry.domain.as_ref();
            assert!(domain.is_none_or(|d| known.contains(&(d.data.as_str(), d.split.as_str()))));
        }
    }

    #[test]
    fn lines_are_short_and_lose_no_word() {
        let said = "many words ".repeat(40);
        let entry =
            Entry { title: said.clone(), citation: said, ..catalog(None).unwrap().remove(0) };
        let block = entry.block();
        assert_eq!(block.split_whitespace().filter(|word| *word == "many").count(), 80);
        assert!(
            block.lines().all(|line| line.len() <= WIDTH && line == line.trim_end()),
            "{block}"
        );
    }

    #[test]
    fn errors_name_entry_and_key() {
        let cause = |text: &str| format!("{:#}", entries(text).unwrap_err());
        assert!(cause("{}").starts_with("a JSON list of entries is wanted: "));
        for (entry, said) in [
            (r#"{"name": "a"}"#, "entry `a`: missing field `splits`"),
            (r#"{"name": "a", "splits": "x"}"#, "entry `a`: splits: invalid type: "),
            (r#"{"name": "a", "splits": [], "x": 1}"#, "entry `a`: x: unknown field `x`"),
            (r#"{"name": "a/b", "splits": ["x"]}"#, "entry `a/b`: name: "),
            (r#"{"name": "a", "splits": ["x"], "labels": ["b"]}"#, "entry `a`: labels: "),
            (r#"{"name": "a", "splits": ["x"], "hub": {"id": "b"}}"#, "entry `a`: hub.id: "),
            (
                r#"{"name": "a", "splits": ["x"], "hub": {"id": 1}}"#,
                "entry `a`: hub.id: invalid type",
            ),
            (
                r#"{"name": "a", "splits": ["x"], "hub": {"id": "b/c", "files": {"y": []}}}"#,
                "entry `a`: hub.files: `y`",
            ),
            (
                r#"{"name": "a", "splits": ["x"], "unlabelled": ["y"]}"#,
                "entry `a`: unlabelled: `y`",
            ),
            (
                r#"{"name": "a", "splits": ["x"]}, {"name": "a", "splits": ["x"]}"#,
                "entry `a`: name: ",
            ),
        ] {
            let cause = cause(&format!("[{entry}]"));
            assert!(cause.starts_with(said), "{cause}");
        }
    }
}
