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

/// The files of a split: `SPLIT.ENDING`, else `SPLIT-00000-of-00002.ENDING` and its like, in order; none if the folder
/// has neither.
pub fn of_split(folder: &Path, split: &str) -> Vec<PathBuf> {
    let whole = endings().map(|ending| folder.join(format!("{split}.{ending}")));
    if let Some(path) = whole.into_iter().find(|path| path.is_file()) {
        return vec![path];
    }
    let names = || std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = |ending: String| -> Vec<PathBuf> {
        let mut parts: Vec<PathBuf> = names()
            .map(|entry| entry.path())
            .filter(|path| part(path, split, &ending).is_some() && path.is_file())
            .collect();
        parts.sort();
        parts
    };
    endings().map(parts).find(|parts| !parts.is_empty()).unwrap_or_default()
}

/// Number and count of `SPLIT-NUMBER-of-COUNT.ENDING`.
fn part(path: &Path, split: &str, ending: &str) -> Option<(usize, usize)> {
    let name = path.file_name()?.to_str()?.strip_prefix(split)?.strip_prefix('-')?;
    let (number, count) = name.strip_suffix(ending)?.strip_suffix('.')?.split_once("-of-")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(count)).then_some((number.parse().ok()?, count.parse().ok()?))
}

/// Fails where one of `SPLIT-NUMBER-of-COUNT` is missing.
pub fn complete(files: &[PathBuf], split: &str) -> Result<()> {
    let ending = |path: &Path| -> Option<String> {
        Some(path.file_name()?.to_str()?.split_once('.')?.1.to_owned())
    };
    for (i, path) in files.iter().enumerate() {
        let ending = ending(path).unwrap_or_default();
        match part(path, split, &ending) {
            Some(at) if at != (i, files.len()) => {
                bail!("{}: one of {} files, but {} are there", path.display(), at.1, files.len())
            }
            _ => {}
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
