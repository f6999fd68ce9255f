//! Data sets of the hub: which of a repository's files are a split.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use glob::{MatchOptions, Pattern};
use serde::Deserialize;

use super::files;
use super::read::Format;
use crate::flags::fault;
use crate::hub::{Kind, Repo, Settings, Snapshot};

/// Where a split lies if nothing else is said; the first pattern that any file fits counts. The last is the layout of
/// the branch refs/convert/parquet.
const USUAL: [&str; 9] = [
    "SPLIT.parquet",
    "SPLIT-*.parquet",
    "data/SPLIT.parquet",
    "data/SPLIT-*.parquet",
    "*/SPLIT-*.parquet",
    "SPLIT.ENDING",
    "data/SPLIT.ENDING",
    "SPLIT/*.parquet",
    "*/SPLIT/*.parquet",
];
/// What else validation splits are called.
const VALIDATION: [&str; 4] = ["validation", "valid", "val", "dev"];

/// The repository of a data set, as the catalog writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// `org/name[@revision]`
    pub id: String,
    /// Patterns of the files of a split, in which `*` stands for anything but `/`; else the usual places.
    #[serde(default)]
    pub files: BTreeMap<String, Vec<String>>,
    /// How rows are written, where the file's ending does not say it.
    pub format: Option<Format>,
}

impl Home {
    /// A repository the catalog does not know; nothing if it is not the name of one.
    pub fn named(id: &str) -> Option<Self> {
        // A misspelt file is no repository.
        let repo = Repo::parse(Kind::Data, id).filter(|_| Format::of(id.as_ref()).is_none());
        repo.map(|_| Self { id: id.to_owned(), files: BTreeMap::new(), format: None })
    }
}

/// A data set of the hub, its list of files read.
pub struct Remote {
    pub home: Home,
    snapshot: Snapshot,
}

impl Remote {
    pub fn open(home: &Home) -> Result<Self> {
        let repo = Repo::parse(Kind::Data, &home.id);
        let repo = repo.with_context(|| format!("{}: no repository has such a name", home.id))?;
        Ok(Self { home: home.clone(), snapshot: Snapshot::open(repo, Settings::from_env()?)? })
    }

    pub fn has(&self, split: &str) -> bool {
        self.find(split).is_ok_and(|files| !files.is_empty())
    }

    /// Fetches the files of a split, in the order of their names.
    pub fn fetch(&self, split: &str) -> Result<Vec<PathBuf>> {
        let files = self.find(split)?;
        if files.is_empty() {
            let some: Vec<_> = self.snapshot.files().iter().take(8).map(String::as_str).collect();
            return Err(fault(
                format!("{}: no file is a split `{split}`", self.home.id),
                format!(
                    "there are {}; an entry of --catalog FILE can say which is what",
                    some.join(", ")
                ),
            ));
        }
        files.into_iter().map(|file| self.snapshot.fetch(file)).collect()
    }

    fn find(&self, split: &str) -> Result<Vec<&str>> {
        for pattern in self.patterns(split) {
            let found = fitting(self.snapshot.files(), &pattern)?;
            let folders: BTreeSet<&str> = found
                .iter()
                .map(|file| file.rsplit_once('/').map_or("", |(folder, _)| folder))
                .collect();
            if folders.len() > 1 {
                let folders: Vec<_> = folders.into_iter().collect();
                bail!(fault(
                    format!("{}: `{split}` is in {}", self.home.id, folders.join(" and in ")),
                    "an entry of --catalog FILE can say which is meant",
                ));
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn patterns(&self, split: &str) -> Vec<String> {
        if let Some(given) = self.home.files.get(split) {
            return given.clone();
        }
        let names = if split == "validation" { &VALIDATION[..] } else { &[split] };
        names.iter().flat_map(|name| usual(&Pattern::escape(name))).collect()
    }
}

fn usual(split: &str) -> Vec<String> {
    let with_endings = |pattern: &str| match pattern.contains("ENDING") {
        true => files::endings().map(|ending| pattern.replace("ENDING", &ending)).collect(),
        false => vec![pattern.to_owned()],
    };
    USUAL.iter().flat_map(|pattern| with_endings(&pattern.replace("SPLIT", split))).collect()
}

/// The files that fit a pattern, in the order of their names.
fn fitting<'a>(files: &'a [String], pattern: &str) -> Result<Vec<&'a str>> {
    let within = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let fits = Pattern::new(pattern).with_context(|| format!("pattern {pattern:?}"))?;
    let mut found: Vec<&str> = files.iter().map(String::as_str).collect();
    found.retain(|file| fits.matches_with(file, within));
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_in_a_folder() {
        let files =
            ["data/train-1.parquet", "data/train-0.parquet", "data/old/train-2.parquet", "t"];
        let files = files.map(String::from);
        let found = fitting(&files, "data/train-*.parquet").unwrap();
        assert_eq!(found, ["data/train-0.parquet", "data/train-1.parquet"]);
        assert!(fitting(&files, "[").is_err());
        assert!(usual("dev").contains(&"data/dev.jsonl.gz".to_owned()));
    }

    #[test]
    fn files_are_no_repositories() {
        assert!(Home::named("org/name@main").is_some());
        for path in ["imdb", "data/train.csv", "a/b.jsonl.gz", "/a/b", "a/b/c"] {
            assert!(Home::named(path).is_none(), "{path}");
        }
    }
}
