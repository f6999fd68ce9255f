//! Arms of an experiment: runs that differ in their seed alone.
//!
//! A run is named by its path, `…/TASK/ENCODER/METHOD/SEED/score.json`; its log lies beside its score.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The runs of one task, encoder and method, over seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    pub task: String,
    pub name: String,
    /// The scores shown of such runs, each with its value for every seed.
    pub scores: Vec<(Score, Vec<f64>)>,
    /// Weights that trained during fine-tuning.
    pub trained: u64,
    /// Runs that tell nothing apart: their seed, and how it shows.
    pub degenerate: Vec<(String, String)>,
    /// Training time: of its encoder once, and of every seed.
    pub seconds: f64,
}

/// A score that a table shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub title: &'static str,
    key: &'static str,
    /// It is at most 1, and shown in percent.
    pub is_share: bool,
}

const fn share(title: &'static str, key: &'static str) -> Score {
    Score { title, key, is_share: true }
}

/// Every score that a table may show, in order.
pub const SCORES: [Score; 6] = [
    share("accuracy", "accuracy"),
    share("micro-F1", "micro_f1"),
    share("macro-F1", "macro_f1"),
    Score { title: "MSE", key: "mse", is_share: false },
    share("Pearson", "pearson"),
    share("Spearman", "spearman"),
];

/// What is shown of runs on such a problem; of one class a text, micro-F1 is the accuracy.
fn shown(problem: &Value) -> Vec<Score> {
    let keys: &[&str] = match problem.as_str() {
        Some("multi_label_classification") => &["accuracy", "micro_f1", "macro_f1"],
        Some("regression") => &["mse", "pearson", "spearman"],
        _ => &["accuracy", "macro_f1"],
    };
    SCORES.into_iter().filter(|score| keys.contains(&score.key)).collect()
}

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

/// Groups runs into arms, tasks in order, then from the baseline to the longest adaptation.
pub fn arms(scores: &[PathBuf]) -> Result<Vec<Arm>> {
    let mut keyed: Vec<(Key, Vec<&Path>)> = Vec::new();
    for path in scores {
        let key = key(path).with_context(|| path.display().to_string())?;
        match keyed.iter_mut().find(|(other, _)| *other == key) {
            Some((_, runs)) => runs.push(path),
            None => keyed.push((key, vec![path])),
        }
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.into_iter().map(|((task, _, name), runs)| arm(task, name, &runs)).collect()
}

/// Task, place in the table, and name of an arm.
type Key = (String, usize, String);

/// The arm that a score belongs to.
fn key(path: &Path) -> Result<Key> {
    let parts: Vec<_> =
        path.iter().rev().skip(1).take(4).map(|part| part.to_string_lossy()).collect();
    let [_, method, encoder, task] = &parts[..] else {
        anyhow::bail!("not named TASK/ENCODER/METHOD/SEED/score.json")
    };
    let order = ["base", "dapt", "tapt", "dapt+tapt"];
    let place = order.iter().position(|name| name == encoder).unwrap_or(order.len());
    let name = match (&**encoder, &**method) {
        ("base", "full") => "baseline".to_owned(),
        ("base", method) => method.to_owned(),
        (encoder, "full") => encoder.to_owned(),
        (encoder, method) => format!("{encoder} {method}"),
    };
    Ok((task.to_string(), place * 2 + usize::from(method != "full"), name))
}

fn arm(task: String, name: String, runs: &[&Path]) -> Result<Arm> {
    let (scores, degenerate) = (vec![], vec![]);
    let mut arm = Arm { task, name, scores, trained: 0, degenerate, seconds: 0.0 };
    let mut encoder = None;
    for path in runs {
        let named = || path.display().to_string();
        let score: Value = serde_json::from_str(&fs::read_to_string(path).with_context(named)?)
            .with_context(named)?;
        if arm.scores.is_empty() {
            arm.scores = shown(&score["problem"]).into_iter().map(|of| (of, vec![])).collect();
        }
        for (Score { key, .. }, values) in &mut arm.scores {
            let value = score["scores"][*key].as_f64();
            values.push(value.with_context(|| format!("{}: no {key}", named()))?);
        }
        let log = Log::read(path.with_file_name("log.jsonl"))?;
        let said = score["degenerate"].as_str().or(log.degenerate.as_deref());
        arm.degenerate.extend(said.map(|said| (seed(path), said.to_owned())));
        arm.trained = log.run["trained"].as_u64().unwrap_or(0);
        arm.seconds += log.seconds;
        encoder = log.model();
    }
    let from = runs.first().copied().unwrap_or(Path::new(""));
    arm.seconds += encoder.map_or(Ok(0.0), |encoder| adaptation(&encoder, from))?;
    Ok(arm)
}

/// The last folder of a score's path.
fn seed(score: &Path) -> String {
    let folder = score.parent().and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Seconds of adaptation behind an encoder; 0 for one that nobody here adapted. Its path is one from where the run
/// was made: from here, or from a folder above `score`.
fn adaptation(encoder: &Path, score: &Path) -> Result<f64> {
    let path = encoder.join("log.jsonl");
    let here =
        std::iter::once(path.clone()).chain(score.ancestors().map(|above| above.join(&path)));
    let Some(path) = here.into_iter().find(|path| path.exists()) else { return Ok(0.0) };
    let log = Log::read(path)?;
    match log.model() {
        Some(before) => Ok(log.seconds + adaptation(&before, score)?),
        None => Ok(0.0),
    }
}

/// What a table needs of a log: its last run event, and the time of the run.
struct Log {
    run: Value,
    seconds: f64,
    /// How the weights that were kept show that nothing was learnt.
    degenerate: Option<String>,
}

impl Log {
    fn read(path: PathBuf) -> Result<Self> {
        let named = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(named)?;
        let mut log = Self { run: Value::Null, seconds: 0.0, degenerate: None };
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).with_context(named)?;
            match event["event"].as_str() {
                Some("run") => log.run = event,
                Some("done") => {
                    log.seconds = event["seconds"].as_f64().unwrap_or(0.0);
                    log.degenerate = event["degenerate"].as_str().map(str::to_owned);
                }
                _ => {}
            }
        }
        ensure!(!log.run.is_null(), "{}: no run in it", named());
        Ok(log)
    }

    /// The model the run started from.
    fn model(&self) -> Option<PathBuf> {
        self.run["config"]["model"].as_str().map(PathBuf::from)
    }
}
