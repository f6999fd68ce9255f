//! Where the splits of a data set are: a folder of files, one file, standard input, or the built-in sample.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::catalog::{Entry, catalog};
use super::columns::Columns;
use super::parquet::Classes;
use super::read::{self, Reading, Records, is_stdin};
use super::remote::{Home, Remote};
use super::{files, sample};
use crate::flags::fault;

/// A data set found, its splits not yet opened.
pub struct Shelf {
    pub name: String,
    pub entry: Option<Entry>,
    place: Place,
    /// What the hub has of an entry, once that was asked.
    remote: OnceCell<Remote>,
}

enum Place {
    Folder(PathBuf),
    Files(Vec<PathBuf>),
    Hub(Box<Remote>),
    Sample,
}

impl Shelf {
    /// `data` is one name, of the catalog (its files below `dir`, else on the hub), a directory, a directory below
    /// `dir`, or a data set of the hub; or files, patterns, and `-`.
    pub fn find(data: &[String], dir: &Path, catalog: &[Entry]) -> Result<Self> {
        let [data] = data else {
            let place = Place::Files(files::expand(data)?);
            return Ok(Self::new(&data.join(" "), None, place));
        };
        let data = data.as_str();
        let entry = catalog.iter().find(|entry| entry.name == data).cloned();
        let path = Path::new(data);
        let place = match &entry {
            Some(entry) if entry.name == sample::NAME => Place::Sample,
            Some(entry) => Place::Folder(dir.join(&entry.name)),
            None if path.is_dir() => Place::Folder(path.to_owned()),
            None if is_stdin(path) || path.exists() => Place::Files(vec![path.to_owned()]),
            None if dir.join(data).is_dir() => Place::Folder(dir.join(data)),
            None if files::is_pattern(data) => Place::Files(files::expand(&[data.to_owned()])?),
            None => match Home::named(data) {
                Some(home) => Place::Hub(Box::new(Remote::open(&home)?)),
                None => return Err(unknown(data)),
            },
        };
        Ok(Self::new(data, entry, place))
    }

    fn new(name: &str, entry: Option<Entry>, place: Place) -> Self {
        Self { name: name.to_owned(), entry, place, remote: OnceCell::new() }
    }

    /// The data set and split that `domain` stands for.
    pub fn domain(&self, dir: &Path, catalog: &[Entry]) -> Result<(Self, String)> {
        match self.entry.as_ref().and_then(|entry| entry.domain.clone()) {
            Some(domain) => Ok((Self::find(&[domain.data], dir, catalog)?, domain.split)),
            None => Err(fault(
                format!("{}: no domain corpus is known for it", self.name),
                "name the corpus itself: prep FILE, or another data set of prep --list",
            )),
        }
    }

    /// Whether what was read is gone, as from a pipe.
    pub fn reads_once(&self) -> bool {
        matches!(&self.place, Place::Files(files) if !files.iter().all(|path| path.is_file()))
    }

    /// Whether a split is there of itself, not carved out of another.
    pub fn has(&self, split: &str) -> bool {
        match (&self.entry, &self.place) {
            (Some(entry), _) => entry.splits.iter().any(|name| name == split),
            (None, Place::Folder(folder)) => !files::of_split(folder, split).is_empty(),
            (None, Place::Hub(remote)) => remote.has(split),
            (None, _) => split == "train",
        }
    }

    /// The columns of a split, as far as the catalog knows them.
    pub fn columns(&self, split: &str) -> Columns {
        self.entry.as_ref().map_or_else(Columns::default, |entry| entry.columns(split))
    }

    /// Opens a split.
    pub fn open(&self, split: &str, reading: &Reading) -> Result<Records> {
        match self.files(split)? {
            None => sample::records(split),
            Some(files) => read::open(&files, &self.read_as(reading)),
        }
    }

    /// The names of classes that the files of a split tell.
    pub fn classes(&self, split: &str, reading: &Reading) -> Result<Classes> {
        read::classes(&self.files(split)?.unwrap_or_default(), &self.read_as(reading))
    }

    /// The files of a split; none for what is made here.
    pub fn files(&self, split: &str) -> Result<Option<Vec<PathBuf>>> {
        if !self.has(split) {
            return Err(self.no_split(split));
        }
        match &self.place {
            Place::Sample => Ok(None),
            Place::Files(files) => Ok(Some(files.clone())),
            Place::Hub(remote) => remote.fetch(split).map(Some),
            Place::Folder(folder) => {
                let found = files::of_split(folder, split);
                if found.is_empty() {
                    return self.fetch(folder, split).map(Some);
                }
                files::complete(&found, split)?;
                Ok(Some(found))
            }
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

    /// The flags, with how the catalog says the hub's files are written.
    fn read_as(&self, reading: &Reading) -> Reading {
        let known = self.remote.get().and_then(|remote| remote.home.format);
        Reading { format: reading.format.or(known), ..reading.clone() }
    }

    fn no_split(&self, split: &str) -> anyhow::Error {
        let cause = format!("{}: no split `{split}`", self.name);
        let there_are = match &self.entry {
            Some(entry) => format!("splits are {}", entry.splits.join(", ")),
            None => format!(
                "a split is a file called SPLIT.{{{}}}[.gz|.zst], or several, SPLIT-00000-of-00002.…",
                files::ENDINGS.join(",")
            ),
        };
        match split {
            "validation" | "test" => fault(cause, "--carve 0.1 takes one out of train"),
            _ => fault(cause, there_are),
        }
    }
}

fn missing(folder: &Path, split: &str) -> anyhow::Error {
    let place = folder.join(split);
    let cause =
        format!("{}.{{{}}}[.gz|.zst]: no such file", place.display(), files::ENDINGS.join(","));
    fault(cause, "put the file there, or name another folder with --data DIR")
}

fn unknown(data: &str) -> anyhow::Error {
    let cause = format!("{data}: no such file or directory, and not in the catalog");
    fault(cause, "prep --list prints the catalog; a data set of the hub is called org/name")
}

/// The files that `data` names or has patterns of; none of a data set by name, or of a folder's splits.
pub fn files_named(data: &[String], own: Option<&Path>) -> Result<Vec<PathBuf>> {
    let known = catalog(own)?.iter().any(|entry| *data == [entry.name.as_str()]);
    Ok(if known { Vec::new() } else { files::expand(data).unwrap_or_default() })
}

/// Fetches the splits of a data set of the catalog, or of the hub; gives their files.
pub fn fetch(data: &str, splits: &[String], own: Option<&Path>) -> Result<Vec<PathBuf>> {
    let nowhere = Path::new("");
    let shelf = Shelf::find(&[data.to_owned()], nowhere, &catalog(own)?)?;
    let files = splits.iter().map(|split| match &shelf.place {
        Place::Folder(folder) if shelf.entry.is_some() => shelf.fetch(folder, split),
        _ => Ok(shelf.files(split)?.unwrap_or_default()),
    });
    Ok(files.collect::<Result<Vec<_>>>()?.concat())
}
