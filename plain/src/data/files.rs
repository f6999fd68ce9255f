//! Which files: patterns, the files of a split in a folder, their digests.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::read::{is_stdin, name_of};
use crate::flags::{fault, usage};

/// The endings a split is looked for with, in this order, each also with what it may be compressed with.
pub const ENDINGS: [&str; 5] = ["jsonl", "csv", "tsv", "parquet", "txt"];
const COMPRESSED: [&str; 3] = ["", ".gz", ".zst"];

/// Every ending a split is looked for with, in order.
pub fn endings() -> impl Iterator<Item = String> {
    ENDINGS.iter().flat_map(|e| COMPRESSED.map(|c| format!("{e}{c}")))
}

/// Whether a name that is no file's may stand for many.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The files that names and patterns stand for, those of a pattern in the order of their names.
pub fn expand(names: &[String]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in names {
        let path = Path::new(name);
        match (path.is_dir(), is_stdin(path) || path.exists(), is_pattern(name)) {
            (true, ..) if names.len() > 1 => {
                let cure = format!("name its files: '{}/*'", name.trim_end_matches('/'));
                bail!(usage(format!("{name}: a directory is read alone")).hint(cure))
            }
            (_, true, _) => files.push(path.to_owned()),
            (_, false, true) => files.extend(matches(name)?),
            _ => bail!(fault(
                format!("{name}: no such file"),
                "beside others only files and patterns are read; data sets of prep --list stand alone"
            )),
        }
    }
    if files.iter().filter(|path| is_stdin(path)).count() > 1 {
        bail!(usage("standard input can be read once: give `-` once"));
    }
    Ok(files)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).map_err(|error| usage(format!("{pattern}: {}", error.msg)))?;
    let files: Vec<PathBuf> = paths
        .filter(|path| path.as_ref().map_or(true, |path| !path.is_dir()))
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("{}: {}", error.path().display(), error.error()))?;
    match files.is_empty() {
        true => bail!("{pattern}: no file matches"),
        false => Ok(files),
    }
}

/// The files of a split, by name: `SPLIT.ENDING`, or `SPLIT-00000-of-00002.ENDING` and its like.
pub fn of_split(folder: &Path, split: &str) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let whole = |ending: &str| path.file_name() == Some(format!("{split}.{ending}").as_ref());
        let fits = |ending: String| whole(&ending) || part(path, split, &ending).is_some();
        endings().any(fits) && path.is_file()
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    files.sort();
    files
}

/// Number and count of `SPLIT-NUMBER-of-COUNT.ENDING`.
fn part(path: &Path, split: &str, ending: &str) -> Option<(usize, usize)> {
    let name = path.file_name()?.to_str()?.strip_prefix(split)?.strip_prefix('-')?;
    let (number, count) = name.strip_suffix(ending)?.strip_suffix('.')?.split_once("-of-")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(count)).then_some((number.parse().ok()?, count.parse().ok()?))
}

/// Fails where the files of a split are not one, or all of `SPLIT-NUMBER-of-COUNT.ENDING`.
pub fn complete(files: &[PathBuf], split: &str) -> Result<()> {
    let Some((first, rest)) = files.split_first() else { return Ok(()) };
    let ending = endings().find(|ending| part(first, split, ending).is_some());
    let place = |path: &Path| part(path, split, ending.as_deref()?);
    if let Some(other) = rest.iter().find(|path| ending.is_none() || place(path).is_none()) {
        let cause = format!("{} and {}: both are `{split}`", first.display(), other.display());
        bail!(fault(cause, "take one of them away, or name the file itself: prep FILE"));
    }
    for (i, path) in files.iter().enumerate() {
        if let Some((_, of)) = place(path).filter(|at| *at != (i, files.len())) {
            bail!("{}: one of {of} files, but {} are there", path.display(), files.len());
        }
    }
    Ok(())
}

/// What a header says of the files read: `sha256` of one, `files` of several; nothing of a stream.
pub fn digests(files: &[PathBuf]) -> Result<Option<(&'static str, Value)>> {
    match files {
        [] => Ok(None),
        [file] => Ok(digest(file)?.map(|digest| ("sha256", json!(digest)))),
        files => {
            let said = |file: &PathBuf| -> Result<Value> {
                Ok(json!({"file": name_of(file), "sha256": digest(file)?}))
            };
            Ok(Some(("files", files.iter().map(said).collect::<Result<_>>()?)))
        }
    }
}

fn digest(path: &Path) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.with_context(|| path.display().to_string())?;
    Ok(Some(format!("{:x}", hash.finalize())))
}
