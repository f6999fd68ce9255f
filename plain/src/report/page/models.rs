//! The models of a task whose hidden states were written.

use std::fs;
use std::path::{Path, PathBuf};

use super::Task;

const FILE: &str = "hidden.safetensors";

/// A model with hidden states.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub name: String,
    /// The folder of its run, or of its encoder.
    pub dir: PathBuf,
    /// The step it was kept at, where it is not the last.
    pub step: Option<u64>,
    /// Its hidden states.
    pub path: PathBuf,
    /// Those of the model it was made from, where they are there.
    pub against: Option<PathBuf>,
}

/// Every encoder before fine-tuning, then the first run of each arm that has states; the models kept on the way to each
/// come before it.
pub fn models(task: &Task) -> Vec<Model> {
    let mut all: Vec<Model> = Vec::new();
    for arm in task.arms {
        let folder = arm.runs.first().and_then(|run| run.path.ancestors().nth(3));
        let Some(dir) = folder.filter(|dir| all.iter().all(|known| known.dir != *dir)) else {
            continue;
        };
        let encoder = &arm.place.encoder;
        let base = dir.with_file_name("base").join(FILE);
        let base = Some(base).filter(|base| *base != dir.join(FILE) && base.exists());
        let last = format!("{encoder}, before fine-tuning");
        all.extend(in_folder(dir, base, last, |step| {
            format!("{encoder}, pretraining, step {step}")
        }));
    }
    for arm in task.arms {
        let Some(run) = arm.runs.iter().find(|run| run.beside(FILE).exists()) else { continue };
        let (name, seed, path) = (&arm.name, &run.seed, run.beside(FILE));
        let Some(dir) = path.parent() else { continue };
        let before = dir.ancestors().nth(2).map(|encoder| encoder.join(FILE));
        let last = format!("{name}, fine-tuned, seed {seed}");
        let of_step = |step| format!("{name}, seed {seed}, step {step}");
        all.extend(in_folder(dir, before.filter(|before| before.exists()), last, of_step));
    }
    all
}

/// The kept models of a folder, in order of their steps, and the last one.
fn in_folder(
    dir: &Path,
    against: Option<PathBuf>,
    last: String,
    named: impl Fn(u64) -> String,
) -> Vec<Model> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut steps: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name.strip_prefix("step-")?.parse().ok()?, entry.path()))
        })
        .collect();
    steps.sort();
    let steps = steps.into_iter().map(|(step, path)| (named(step), Some(step), path));
    let model = |(name, step, path): (String, Option<u64>, PathBuf)| {
        let (dir, against) = (dir.to_owned(), against.clone());
        Model { name, dir, step, path: path.join(FILE), against }
    };
    let all = steps.chain([(last, None, dir.to_owned())]).map(model);
    all.filter(|model| model.path.exists()).collect()
}
