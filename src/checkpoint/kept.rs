//! Models of earlier steps beside the last one: `DIR/step-000120`, each whole or not there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::durable::settle;
use super::save::write_json;

/// Where a model is written before it takes its name, and lies once it has lost it.
const BESIDE: &str = ".keeping";
/// What a kept model is, beside its files. A directory without it is none of ours.
const FILE: &str = "step.json";

/// When a model was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// Steps done.
    pub step: u64,
    /// Of the run.
    pub identity: String,
}

impl Stamp {
    fn name(&self) -> String {
        format!("step-{:06}", self.step)
    }
}

/// Has `write` fill `dir/step-000120` and `look` at it before it takes its name. Of what this run kept there before, the
/// models of earlier steps stay, `most` in all; with 0 nothing is written and nothing goes. Models of other runs stay, but
/// for one of this name.
pub fn keep(
    dir: &Path,
    (step, most): (&Stamp, usize),
    write: impl FnOnce(&Path) -> Result<()>,
    look: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if most == 0 {
        return Ok(());
    }
    let beside = dir.join(BESIDE);
    let named = || beside.display().to_string();
    if beside.exists() {
        fs::remove_dir_all(&beside).with_context(named)?;
    }
    let (name, old) = (step.name(), outdated(dir, step, most)?);
    // Of the same name: adapters are called as their directory is.
    let inner = beside.join(&name);
    fs::create_dir_all(&inner).with_context(named)?;
    write(&inner)?;
    write_json(&inner.join(FILE), &json!(step))?;
    look(&inner)?;
    let gone = beside.join("gone");
    for path in old {
        // Away at once: what is removed file by file would be seen half removed.
        fs::create_dir_all(&gone).with_context(named)?;
        let to = gone.join(path.file_name().unwrap_or_default());
        fs::rename(&path, to).with_context(|| path.display().to_string())?;
    }
    let to = dir.join(&name);
    fs::rename(inner, &to).with_context(|| to.display().to_string())?;
    settle(dir);
    fs::remove_dir_all(&beside).with_context(named)
}

/// The kept models in `dir` that make room for that of `step`: those of later steps of its run, one of its name, and the
/// oldest where there would be more than `most`.
fn outdated(dir: &Path, step: &Stamp, most: usize) -> Result<Vec<PathBuf>> {
    let mut all: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let Some(found) = read(&path) else { continue };
        if found.identity != step.identity && found.step != step.step {
            continue;
        }
        let before = found.step < step.step;
        all.push((if before { found.step } else { 0 }, path));
    }
    // The latest first; steps count from 1.
    all.sort_by_key(|(step, path)| (std::cmp::Reverse(*step), path.clone()));
    let stay = all.iter().take(most.saturating_sub(1)).filter(|(step, _)| *step > 0).count();
    Ok(all.split_off(stay).into_iter().map(|(_, path)| path).collect())
}

/// What a directory says of the step it was kept at; nothing if it was given another name since.
fn read(dir: &Path) -> Option<Stamp> {
    let stamp: Stamp = serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()?;
    dir.ends_with(stamp.name()).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn kept(dir: &Path, step: u64, most: usize, identity: &str) -> Result<()> {
        let step = Stamp { step, identity: identity.into() };
        let write = |to: &Path| Ok(fs::write(to.join("model.safetensors"), &step.identity)?);
        let look = |at: &Path| match at.join("model.safetensors").exists() && identity != "bad" {
            true => Ok(()),
            false => bail!("no"),
        };
        keep(dir, (&step, most), write, look)
    }

    #[test]
    fn the_last_of_one_run_stay() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir_all(dir.join("step-000001")).unwrap();
        for step in [5, 10, 15] {
            kept(dir, step, 2, "a").unwrap();
        }
        assert_eq!(names(dir), ["step-000001", "step-000010", "step-000015"]);
        assert_eq!(names(&dir.join("step-000015")), ["model.safetensors", "step.json"]);
        // Taken up at 5, it goes over 10 again; 15 is yet to come.
        kept(dir, 10, 2, "a").unwrap();
        assert_eq!(names(dir), ["step-000001", "step-000010"]);
        kept(dir, 15, 3, "a").unwrap();
        kept(dir, 20, 3, "b").unwrap();
        let all = ["step-000001", "step-000010", "step-000015", "step-000020"];
        assert_eq!(names(dir), all, "those of another run stay");
        kept(dir, 25, 0, "b").unwrap();
        assert_eq!(names(dir), all);
        fs::rename(dir.join("step-000020"), dir.join("good")).unwrap();
        kept(dir, 15, 1, "b").unwrap();
        assert_eq!(names(dir), ["good", "step-000001", "step-000010", "step-000015"]);
    }

    #[test]
    fn what_is_refused_takes_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        kept(dir, 5, 1, "a").unwrap();
        assert!(kept(dir, 10, 1, "bad").is_err());
        assert_eq!(names(dir), [".keeping", "step-000005"]);
        kept(dir, 10, 1, "a").unwrap();
        assert_eq!(names(dir), ["step-000010"]);
    }
}
