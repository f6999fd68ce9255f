//! Where the splits of a data set are: a folder of files, one file, standard input, or the built-in sample.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::catalog::{Entry, catalog};
use super::columns::Columns;
use super::read::{Format, Records, is_stdin, name_of, records};
use super::remote::{Home, Remote};
use super::sample;
use crate::flags::fault;

/// The endings a split is looked for with, in this order, each also with `.gz`.
const ENDINGS: [&str; 4] = ["jsonl", "csv", "tsv", "txt"];

/// A data set found, its splits not yet opened.
pub struct Shelf {
    pub name: String,
    pub entry: Option<Entry>,
    place: Place,
    catalog: Vec<Entry>,
    /// What the hub has of an entry, once that was asked.
    remote: OnceCell<Remote>,
}

enum Place {
    Folder(PathBuf),
    Stream(PathBuf),
    Hub(Remote),
    Sample,
}

impl Shelf {
    /// `data` is a name of the catalog (its files below `dir`, else on the hub), a directory or a file, a directory
    /// below `dir`, `-`, or a data set of the hub.
    pub fn find(data: &str, dir: &Path, catalog: Vec<Entry>) -> Result<Self> {
        let entry = catalog.iter().find(|entry| entry.name == data).cloned();
        let path = Path::new(data);
        let place = match &entry {
            Some(entry) if entry.name == sample::NAME => Place::Sample,
            Some(entry) => Place::Folder(dir.join(&entry.name)),
            None if path.is_dir() => Place::Folder(path.to_owned()),
            None if is_stdin(path) || path.exists() => Place::Stream(path.to_owned()),
            None if dir.join(data).is_dir() => Place::Folder(dir.join(data)),
            None => match Home::named(data) {
                Some(home) => Place::Hub(Remote::open(&home)?),
                None => return Err(unknown(data)),
            },
        };
        Ok(Self { name: data.to_owned(), entry, place, catalog, remote: OnceCell::new() })
    }

    /// The data set and split that `domain` stands for.
    pub fn domain(&self, dir: &Path) -> Result<(Self, String)> {
        match self.entry.as_ref().and_then(|entry| entry.domain.clone()) {
            Some(domain) => {
                Ok((Self::find(&domain.data, dir, self.catalog.clone())?, domain.split))
            }
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
            (None, Place::Hub(remote)) => remote.has(split),
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
        let files = self.files(split)?;
        let format = format.or(self.format());
        match files.as_slice() {
            [] => Ok((format!("{}/{split}", self.name), sample::records(split)?)),
            [path] => Ok((name_of(path), records(path, format, header)?)),
            paths => {
                let all: Vec<_> = paths
                    .iter()
                    .map(|path| records(path, format, header))
                    .collect::<Result<_>>()?;
                Ok((format!("{}/{split}", self.name), Box::new(all.into_iter().flatten())))
            }
        }
    }

    /// sha256 of the files a split is read from, one after the other, where they are files.
    pub fn digest(&self, split: &str) -> Result<Option<String>> {
        let files = self.files(split)?;
        if files.is_empty() || !files.iter().all(|path| path.is_file()) {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        for path in files {
            let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hash));
            copied.with_context(|| path.display().to_string())?;
        }
        Ok(Some(format!("{:x}", hash.finalize())))
    }

    /// None for what is made here.
    pub fn files(&self, split: &str) -> Result<Vec<PathBuf>> {
        if !self.has(split) {
            return Err(self.no_split(split));
        }
        match &self.place {
            Place::Sample => Ok(Vec::new()),
            Place::Stream(path) => Ok(vec![path.clone()]),
            Place::Hub(remote) => remote.fetch(split),
            Place::Folder(folder) => match file(folder, split) {
                Some(path) => Ok(vec![path]),
                None => self.fetch(folder, split),
            },
        }
    }

    /// What `folder` lacks, from the hub.
    fn fetch(&self, folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
        let Some(home) = self.entry.as_ref().and_then(|entry| entry.hub.as_ref()) else {
            return Err(missing(folder, split));
        };
        if self.remote.get().is_none() {
            let _ = self.remote.set(Remote::open(home)?);
        }
        self.remote.get().map_or(Ok(Vec::new()), |remote| remote.fetch(split))
    }

    /// How the rows of the hub's files are written, where the catalog says it.
    fn format(&self) -> Option<Format> {
        self.remote.get()?.home.format
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
    fault(cause, "put the file there, or name another folder with --data DIR")
}

fn unknown(data: &str) -> anyhow::Error {
    let cause = format!("{data}: no such file or directory, and not in the catalog");
    fault(cause, "prep --list prints the catalog; a data set of the hub is called org/name")
}

/// Fetches the splits of a data set of the catalog, or of the hub; gives their files.
pub fn fetch(data: &str, splits: &[String], own: Option<&Path>) -> Result<Vec<PathBuf>> {
    let nowhere = Path::new("");
    let shelf = Shelf::find(data, nowhere, catalog(own)?)?;
    let files = splits.iter().map(|split| match &shelf.place {
        Place::Folder(folder) if shelf.entry.is_some() => shelf.fetch(folder, split),
        _ => shelf.files(split),
    });
    Ok(files.collect::<Result<Vec<_>>>()?.concat())
}
