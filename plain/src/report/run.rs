//! One run: `…/TASK/ENCODER/METHOD/SEED/score.json`, and the log beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::log::Log;
use crate::flags::fault;

/// A score and how the model came about.
#[derive(Debug, Clone)]
pub struct Run {
    /// Of its score.
    pub path: PathBuf,
    pub seed: String,
    pub score: Value,
    pub log: Log,
}

/// The names of a score's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub task: String,
    pub encoder: String,
    pub method: String,
}

impl Place {
    /// Fails where the path is too short.
    pub fn of(score: &Path) -> Result<Self> {
        let parts: Vec<String> = score
            .iter()
            .rev()
            .skip(1)
            .take(4)
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let [_, method, encoder, task] = parts.try_into().map_err(|_| {
            let name = "TASK/ENCODER/METHOD/SEED/score.json";
            fault(format!("{}: not named {name}", score.display()), CURE)
        })?;
        Ok(Self { task, encoder, method })
    }

    /// As `--baseline` names an arm.
    pub fn arm(&self) -> String {
        format!("{}/{}", self.encoder, self.method)
    }
}

impl Run {
    pub fn read(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(named)?;
        let score = serde_json::from_str(&text).with_context(named)?;
        let log = path.with_file_name("log.jsonl");
        let cause = || fault(format!("{}: no such file", log.display()), CURE);
        ensure!(log.exists(), cause());
        let log = Log::read(&log)?;
        let seed = path.parent().and_then(Path::file_name);
        let seed = seed.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { path: path.to_owned(), seed, score, log })
    }

    /// A file beside the score.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// How it shows that the run tells nothing apart: on the texts that are scored, else on those it was evaluated on.
    pub fn degenerate(&self) -> Option<String> {
        let on_validation =
            || Some(format!("on validation {}", self.log.done["degenerate"].as_str()?));
        self.score["degenerate"].as_str().map(String::from).or_else(on_validation)
    }

    /// Whether weights were chosen on what is scored: as the score says; of an older one, by the name of the shard.
    pub fn is_chosen_on_test(&self) -> bool {
        let eval = self.log.run["config"]["eval"].as_array();
        let is_same =
            eval.into_iter().flatten().any(|eval| eval.is_string() && *eval == self.score["shard"]);
        self.score["chosen_on_this"].as_bool().unwrap_or(is_same)
    }

    /// How many of the texts that are scored the model met before, and at which stage.
    pub fn seen(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let seen = |stage| Some((self.score["seen"][stage].as_u64().filter(|n| *n > 0)?, stage));
        ["pretraining", "training", "validation"].into_iter().filter_map(seen)
    }

    /// Why its score is no test score, in words.
    pub fn leak(&self) -> Option<String> {
        if self.is_chosen_on_test() {
            return Some("chosen on the texts that are scored".into());
        }
        let seen = self.seen().map(|(texts, stage)| format!("{texts} texts seen in {stage}"));
        Some(seen.collect::<Vec<_>>().join(", ")).filter(|seen| !seen.is_empty())
    }

    /// Where a file that the run names lies.
    pub fn find(&self, named: &Path) -> Option<PathBuf> {
        find(named, &self.path)
    }
}

/// Where a file lies that is named as from where a run was made: from here, or from a folder above `score`.
pub fn find(named: &Path, score: &Path) -> Option<PathBuf> {
    let above = score.ancestors().map(|above| above.join(named));
    std::iter::once(named.to_owned()).chain(above).find(|path| path.exists())
}

/// What makes a score that is read here.
pub const CURE: &str = "finetune -o TASK/ENCODER/METHOD/SEED, then evaluate that > TASK/ENCODER/METHOD/SEED/score.json";

/// Every `score.json` in or below `path`, in order of name.
pub fn scores_below(path: &Path) -> Result<Vec<PathBuf>> {
    ensure!(path.exists(), "{}: no such file or directory", path.display());
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut inside: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    inside.sort();
    inside.retain(|path| path.is_dir() || path.ends_with("score.json"));
    let lists: Vec<Vec<PathBuf>> =
        inside.iter().map(|path| scores_below(path)).collect::<Result<_>>()?;
    Ok(lists.concat())
}
