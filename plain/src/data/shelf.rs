//! Where the splits of a data set are: a folder of files, one file, standard input, or the built-in sample.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::catalog::{Entry, catalog};
use super::columns::Columns;
use super::parquet::Classes;
use super::read::{self, Reading, Records, is_stdin};
use super::{files, sample};
use crate::flags::fault;

/// A data set found, its splits not yet opened.
pub struct Shelf {
    pub name: String,
    pub entry: Option<Entry>,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Files(Vec<PathBuf>),
    Sample,
}

impl Shelf {
    /// `data` is one name, of the catalog (its files below `dir`), a directory, or a directory below `dir`; or files,
    /// patterns, and `-`.
    pub fn find(data: &[String], dir: &Path) -> Result<Self> {
        let [data] = data else {
            let place = Place::Files(files::expand(data)?);
            return Ok(Self { name: data.join(" "), entry: None, place });
        };
        let data = data.as_str();
        let entry = catalog()?.into_iter().find(|entry| entry.name == data);
        let path = Path::new(data);
        let place = match &entry {
            Some(entry) if entry.name == sample::NAME => Place::Sample,
            Some(entry) => Place::Folder(dir.join(&entry.name)),
            None if path.is_dir() => Place::Folder(path.to_owned()),
            None if is_stdin(path) || path.exists() => Place::Files(vec![path.to_owned()]),
            None if dir.join(data).is_dir() => Place::Folder(dir.join(data)),
            None if files::is_pattern(data) => Place::Files(files::expand(&[data.to_owned()])?),
            None => return Err(unknown(data)),
        };
        Ok(Self { name: data.to_owned(), entry, place })
    }

    /// The data set and split that `domain` stands for.
    pub fn domain(&self, dir: &Path) -> Result<(Self, String)> {
        match self.entry.as_ref().and_then(|entry| entry.domain.clone()) {
            Some(domain) => Ok((Self::find(&[domain.data], dir)?, domain.split)),
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
            Some(files) => read::open(&files, reading),
        }
    }

    /// The names of classes that the files of a split tell.
    pub fn classes(&self, split: &str, reading: &Reading) -> Result<Classes> {
        read::classes(&self.files(split)?.unwrap_or_default(), reading)
    }

    /// The files of a split; none for what is made here.
    pub fn files(&self, split: &str) -> Result<Option<Vec<PathBuf>>> {
        if !self.has(split) {
            return Err(self.no_split(split));
        }
        match &self.place {
            Place::Sample => Ok(None),
            Place::Files(files) => Ok(Some(files.clone())),
            Place::Folder(folder) => {
                let found = files::of_split(folder, split);
                if found.is_empty() {
                    return Err(missing(folder, split));
                }
                files::complete(&found, split)?;
                Ok(Some(found))
            }
        }
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
    let cure = "tapt does not download data yet: put the file there, or name another folder with --data DIR";
    fault(cause, cure)
}

fn unknown(data: &str) -> anyhow::Error {
    let cause = format!("{data}: no such file or directory, and not in the catalog");
    fault(cause, "prep --list prints the catalog")
}
