//! Where the splits of a data set are: a folder of files, one file, standard input, or the built-in sample.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::catalog::{Entry, catalog};
use super::columns::Columns;
use super::read::{Format, Records, is_stdin, name_of, records};
use super::sample;
use crate::flags::fault;

/// The endings a split is looked for with, in this order, each also with `.gz`.
const ENDINGS: [&str; 4] = ["jsonl", "csv", "tsv", "txt"];

/// A data set found, its splits not yet opened.
pub struct Shelf {
    pub name: String,
    pub entry: Option<Entry>,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Stream(PathBuf),
    Sample,
}

impl Shelf {
    /// `data` is a name of the catalog (its files below `dir`), a directory or a file, a directory below `dir`, or
    /// `-`.
    pub fn find(data: &str, dir: &Path) -> Result<Self> {
        let entry = catalog()?.into_iter().find(|entry| entry.name == data);
        let path = Path::new(data);
        let place = match &entry {
            Some(entry) if entry.name == sample::NAME => Place::Sample,
            Some(entry) => Place::Folder(dir.join(&entry.name)),
            None if path.is_dir() => Place::Folder(path.to_owned()),
            None if is_stdin(path) || path.exists() => Place::Stream(path.to_owned()),
            None if dir.join(data).is_dir() => Place::Folder(dir.join(data)),
            None => return Err(unknown(data)),
        };
        Ok(Self { name: data.to_owned(), entry, place })
    }

    /// The data set and split that `domain` stands for.
    pub fn domain(&self, dir: &Path) -> Result<(Self, String)> {
        match self.entry.as_ref().and_then(|entry| entry.domain.clone()) {
            Some(domain) => Ok((Self::find(&domain.data, dir)?, domain.split)),
            None => Err(fault(
                format!("{}: no domain corpus is known for it", self.name),
                "name the corpus itself: prep FILE, or another data set of prep --list",
            )),
        }
    }

    /// Whether what was read is gone, as from a pipe.
    pub fn reads_once(&self) -> bool {
        matches!(&self.place, Place::Stream(path) if !path.is_file())
    }

    /// Whether a split is there of itself, not carved out of another.
    pub fn has(&self, split: &str) -> bool {
        match (&self.entry, &self.place) {
            (Some(entry), _) => entry.splits.iter().any(|name| name == split),
            (None, Place::Folder(folder)) => file(folder, split).is_some(),
            (None, _) => split == "train",
        }
    }

    /// The columns of a split, as far as the catalog knows them.
    pub fn columns(&self, split: &str) -> Columns {
        self.entry.as_ref().map_or_else(Columns::default, |entry| entry.columns(split))
    }

    /// Opens a split: the name that messages give it, and its records.
    pub fn open(
        &self,
        split: &str,
        format: Option<Format>,
        header: bool,
    ) -> Result<(String, Records)> {
        match self.path(split)? {
            None => Ok((format!("{}/{split}", self.name), sample::records(split)?)),
            Some(path) => Ok((name_of(&path), records(&path, format, header)?)),
        }
    }

    /// sha256 of the file a split is read from, where it is a file.
    pub fn digest(&self, split: &str) -> Result<Option<String>> {
        let path = self.path(split)?.filter(|path| path.is_file());
        let Some(path) = path else { return Ok(None) };
        let mut hash = Sha256::new();
        let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hash));
        copied.with_context(|| path.display().to_string())?;
        Ok(Some(format!("{:x}", hash.finalize())))
    }

    fn path(&self, split: &str) -> Result<Option<PathBuf>> {
        if !self.has(split) {
            return Err(self.no_split(split));
        }
        match &self.place {
            Place::Sample => Ok(None),
            Place::Stream(path) => Ok(Some(path.clone())),
            Place::Folder(folder) => match file(folder, split) {
                Some(path) => Ok(Some(path)),
                None => Err(missing(folder, split)),
            },
        }
    }

    fn no_split(&self, split: &str) -> anyhow::Error {
        let cause = format!("{}: no split `{split}`", self.name);
        let there_are = match &self.entry {
            Some(entry) => format!("splits are {}", entry.splits.join(", ")),
            None => "a split is a file called SPLIT.jsonl, .csv, .tsv or .txt, with or without .gz"
                .into(),
        };
        match split {
            "validation" | "test" => fault(cause, "--carve 0.1 takes one out of train"),
            _ => fault(cause, there_are),
        }
    }
}

fn file(folder: &Path, split: &str) -> Option<PathBuf> {
    let names = ENDINGS.iter().flat_map(|e| [format!("{split}.{e}"), format!("{split}.{e}.gz")]);
    names.map(|name| folder.join(name)).find(|path| path.is_file())
}

fn missing(folder: &Path, split: &str) -> anyhow::Error {
    let place = folder.join(split);
    let cause = format!("{}.{{{}}}[.gz]: no such file", place.display(), ENDINGS.join(","));
    let cure = "tapt does not download data yet: put the file there, or name another folder with --data DIR";
    fault(cause, cure)
}

fn unknown(data: &str) -> anyhow::Error {
    let cause = format!("{data}: no such file or directory, and not in the catalog");
    fault(cause, "prep --list prints the catalog")
}
