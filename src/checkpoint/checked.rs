//! Files written beside where they belong, looked at there, and moved in: what a directory holds was read again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::adapterhub;

/// Where a directory's files are written before they are moved in.
const BESIDE: &str = ".saving";
/// Files that say what a directory is; the first is what `make` waits for.
const TELLING: [&str; 3] =
    ["model.safetensors", "adapter_model.safetensors", "adapter_config.json"];

/// Has `write` fill a directory beside `dir`'s files and `look` at it there, then moves the files in, the weights last.
/// Where `look` fails, what was written stays beside.
pub fn checked(
    dir: &Path,
    write: impl FnOnce(&Path) -> Result<()>,
    look: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let named = || dir.display().to_string();
    fs::create_dir_all(dir).with_context(named)?;
    let beside = dir.join(BESIDE);
    if beside.exists() {
        fs::remove_dir_all(&beside).with_context(|| beside.display().to_string())?;
    }
    // Of the same name: adapters are called as their directory is.
    let inner = beside.join(name_of(dir));
    fs::create_dir_all(&inner).with_context(named)?;
    write(&inner)?;
    look(&inner)?;
    move_in(&inner, dir).with_context(named)?;
    fs::remove_dir_all(&beside).with_context(named)
}

/// What a directory is called, also where the path ends in `.` or `..`.
pub fn name_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// Moves every file of `from`. What an earlier run of another kind left in `to` would be read in place of it, and goes.
fn move_in(from: &Path, to: &Path) -> Result<()> {
    for name in TELLING.iter().chain(&adapterhub::FILES).filter(|name| !from.join(name).exists()) {
        if to.join(name).exists() {
            fs::remove_file(to.join(name))?;
        }
    }
    let entries = fs::read_dir(from)?.map(|entry| Ok(entry?.path()));
    let mut files: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    files.sort_by_key(|file| (is_weights(file), file.clone()));
    for file in &files {
        fs::rename(file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Whether a file is the last to be written: the weights, not the head beside them.
fn is_weights(file: &Path) -> bool {
    let ends = |end: &str| file.extension().is_some_and(|own| own == end);
    ends("safetensors") && !file.ends_with("model_head.safetensors")
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    fn fill(dir: &Path, files: &[&str]) -> Result<()> {
        files.iter().try_for_each(|file| Ok(fs::write(dir.join(file), *file)?))
    }

    #[test]
    fn what_is_seen_is_moved_in_and_other_kinds_go() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), &["log.jsonl", "adapter.safetensors", "head_config.json"]).unwrap();
        let look = |beside: &Path| {
            assert_eq!(name_of(beside), name_of(dir.path()));
            assert_eq!(names(beside), ["config.json", "model.safetensors"]);
            Ok(())
        };
        checked(dir.path(), |to| fill(to, &["model.safetensors", "config.json"]), look).unwrap();
        assert_eq!(names(dir.path()), ["config.json", "log.jsonl", "model.safetensors"]);
    }

    #[test]
    fn what_is_refused_stays_beside() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), &["log.jsonl"]).unwrap();
        let write = |to: &Path| fill(to, &["model.safetensors"]);
        assert!(checked(dir.path(), write, |_| bail!("no")).is_err());
        assert_eq!(names(dir.path()), [".saving", "log.jsonl"]);
        checked(dir.path(), write, |_| Ok(())).unwrap();
        assert_eq!(names(dir.path()), ["log.jsonl", "model.safetensors"]);
    }
}
