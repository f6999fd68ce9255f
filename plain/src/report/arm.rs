//! Arms of an experiment: runs that differ in their seed alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use serde_json::Value;

use super::log::Log;
use super::run::{CURE, Place, Run, find};
use super::score::{Score, shown};
use crate::flags::fault;

/// The runs of one task, encoder and method, over seeds.
#[derive(Debug, Clone)]
pub struct Arm {
    pub place: Place,
    /// Short: `baseline`, `lora`, `tapt`, `tapt lora`.
    pub name: String,
    /// In order of their paths; one at least.
    pub runs: Vec<Run>,
    /// The scores shown of such runs, each with its value for every run; not a number where it is not defined.
    pub scores: Vec<(Score, Vec<f64>)>,
    /// Logs of the adaptations behind its encoder, the last first.
    pub adaptations: Vec<Log>,
}

impl Arm {
    /// Weights that trained during fine-tuning.
    pub fn trained(&self) -> u64 {
        let last = self.runs.last();
        last.and_then(|run| run.log.run["trained"].as_u64()).unwrap_or(0)
    }

    /// Seconds that the adaptation of its encoder took, once.
    pub fn adaptation(&self) -> f64 {
        // A sum of nothing is -0.
        self.adaptations.iter().map(Log::seconds).sum::<f64>() + 0.0
    }

    /// Training time: of its encoder once, and of every seed.
    pub fn seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.log.seconds()).sum::<f64>() + self.adaptation()
    }

    /// The most memory of a kind that training held, its encoder's adaptation included, in bytes.
    pub fn memory(&self, key: &str) -> Option<f64> {
        let logs = self.runs.iter().map(|run| &run.log).chain(&self.adaptations);
        logs.filter_map(|log| log.memory(key)).reduce(f64::max)
    }

    /// The mean over seeds of the seconds of a fine-tuning.
    pub fn seconds_of_one(&self) -> f64 {
        (self.seconds() - self.adaptation()) / self.runs.len().max(1) as f64
    }

    /// Runs that tell nothing apart: their seed, and how it shows.
    pub fn degenerate(&self) -> impl Iterator<Item = (&str, String)> {
        self.runs.iter().filter_map(|run| Some((run.seed.as_str(), run.degenerate()?)))
    }

    /// Runs whose score is no test score: their seed, and why.
    pub fn leaks(&self) -> impl Iterator<Item = (&str, String)> {
        self.runs.iter().filter_map(|run| Some((run.seed.as_str(), run.leak()?)))
    }

    /// The values of a score, one a run.
    pub fn values(&self, score: &Score) -> Option<&[f64]> {
        self.scores.iter().find(|(own, _)| own == score).map(|(_, values)| &values[..])
    }
}

/// Groups runs into arms, tasks in order, then from the baseline to the longest adaptation.
pub fn arms(scores: &[PathBuf]) -> Result<Vec<Arm>> {
    let mut keyed: Vec<(Key, Place, Vec<&Path>)> = Vec::new();
    for (path, place) in placed(scores)? {
        match keyed.iter_mut().find(|(_, other, _)| *other == place) {
            Some((_, _, runs)) => runs.push(path),
            None => keyed.push((key(&place), place, vec![path])),
        }
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.into_iter().map(|((.., name), place, runs)| arm(place, name, &runs)).collect()
}

/// Each score once, and its place. Tasks in several folders are named by their folder, too: other models, other limits.
fn placed(scores: &[PathBuf]) -> Result<Vec<(&Path, Place)>> {
    let (mut known, mut found) = (BTreeSet::new(), Vec::new());
    for path in scores {
        let named = || path.display().to_string();
        let place = Place::of(path)?;
        let whole = path.canonicalize().with_context(named)?;
        let folder = whole.ancestors().nth(5).map(Path::to_owned).unwrap_or_default();
        if known.insert(whole) {
            found.push((&**path, place, folder));
        }
    }
    let folders: BTreeSet<PathBuf> = found.iter().map(|(.., folder)| folder.clone()).collect();
    let above = folders.iter().next().map(|one| shared(one, &folders)).unwrap_or_default();
    let named = |(path, place, folder): (_, Place, PathBuf)| {
        let folder = folder.strip_prefix(&above).unwrap_or(&folder).display();
        let task = match folders.len() {
            1 => place.task,
            _ => format!("{folder}: {}", place.task),
        };
        (path, Place { task, ..place })
    };
    Ok(found.into_iter().map(named).collect())
}

/// The longest path above all the folders.
fn shared(one: &Path, folders: &BTreeSet<PathBuf>) -> PathBuf {
    let holds = |above: &&Path| folders.iter().all(|folder| folder.starts_with(above));
    one.ancestors().skip(1).find(holds).unwrap_or(Path::new("")).to_owned()
}

/// Task, place in the table, and name of an arm.
type Key = (String, usize, String);

fn key(Place { task, encoder, method }: &Place) -> Key {
    let order = ["base", "dapt", "tapt", "dapt+tapt"];
    let place = order.iter().position(|name| name == encoder).unwrap_or(order.len());
    let name = match (&**encoder, &**method) {
        ("base", "full") => "baseline".to_owned(),
        ("base", method) => method.to_owned(),
        (encoder, "full") => encoder.to_owned(),
        (encoder, method) => format!("{encoder} {method}"),
    };
    (task.clone(), place * 2 + usize::from(method != "full"), name)
}

fn arm(place: Place, name: String, paths: &[&Path]) -> Result<Arm> {
    let runs: Vec<Run> = paths.iter().map(|path| Run::read(path)).collect::<Result<_>>()?;
    let problem = runs.first().map(|run| shown(&run.score["problem"]));
    let values = |score: &Score| -> Result<Vec<f64>> {
        runs.iter().map(|run| value(run, score.key)).collect()
    };
    let scores = problem.into_iter().flatten().map(|score| Ok((score, values(&score)?)));
    let scores = scores.collect::<Result<_>>()?;
    let encoder = runs.last().and_then(|run| Some((run.log.model()?, paths.first()?)));
    let mut adaptations = Vec::new();
    if let Some((model, from)) = encoder {
        find_adaptations(&model, from, &mut adaptations)?;
    }
    Ok(Arm { place, name, runs, scores, adaptations })
}

fn value(run: &Run, key: &str) -> Result<f64> {
    match run.score["scores"].get(key) {
        Some(Value::Null) => Ok(f64::NAN),
        found => found
            .and_then(Value::as_f64)
            .ok_or_else(|| fault(format!("{}: no {key}", run.path.display()), CURE)),
    }
}

/// Logs of the adaptations behind an encoder; none of one that nobody here adapted. Its path is one from where the run
/// was made.
fn find_adaptations(encoder: &Path, score: &Path, logs: &mut Vec<Log>) -> Result<()> {
    let Some(path) = find(&encoder.join("log.jsonl"), score) else { return Ok(()) };
    let log = Log::read(&path)?;
    let Some(before) = log.model() else { return Ok(()) };
    logs.push(log);
    find_adaptations(&before, score, logs)
}

/// What the arms of one task are held against: the one asked for as ENCODER/METHOD, else `base/full`, else the first.
pub fn baseline<'a>(arms: &'a [Arm], asked: Option<&str>) -> Option<&'a Arm> {
    let named = |name: &str| arms.iter().find(|arm| arm.place.arm() == name);
    asked.and_then(named).or_else(|| named("base/full")).or(arms.first())
}

/// Fails where no arm has the name that was asked for.
pub fn check_baseline(arms: &[Arm], asked: Option<&str>) -> Result<()> {
    let Some(asked) = asked else { return Ok(()) };
    let mut names: Vec<String> = arms.iter().map(|arm| arm.place.arm()).collect();
    names.sort();
    names.dedup();
    let cure = format!("ENCODER/METHOD, one of {}", names.join(", "));
    ensure!(
        names.iter().any(|name| name == asked),
        fault(format!("--baseline {asked}: no such arm"), &cure)
    );
    Ok(())
}

/// The arms of each task.
pub fn tasks(arms: &[Arm]) -> impl Iterator<Item = &[Arm]> {
    arms.chunk_by(|a, b| a.place.task == b.place.task)
}
