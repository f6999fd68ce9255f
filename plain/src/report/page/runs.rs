//! Every run by itself.

use anyhow::Result;

use super::markup::{Cell, Markup, details, table};
use super::{Task, counted};
use crate::report::arm::Arm;
use crate::report::run::Run;
use crate::report::score::Score;

pub fn show(task: &Task) -> Result<Markup> {
    let scores: Vec<Score> = task.base.scores.iter().map(|(score, _)| *score).collect();
    let mut titles = vec!["arm", "seed"];
    titles.extend(scores.iter().map(|score| score.title));
    titles.extend(["steps", "best step", "seconds", "path", "command"]);
    let rows: Vec<Vec<Cell>> = task
        .arms
        .iter()
        .flat_map(|arm| arm.runs.iter().map(|run| row(arm, run, &scores)))
        .collect();
    let inside = table(&format!("{}: runs", task.name()), &titles, &rows)?;
    details(&format!("{}: {}", task.name(), counted(rows.len(), "run")), &inside)
}

fn row(arm: &Arm, run: &Run, scores: &[Score]) -> Vec<Cell> {
    let (log, whole) = (&run.log, |value: f64| format!("{value:.0}"));
    let mut cells = vec![Cell::text(&arm.name), Cell::text(&run.seed)];
    cells.extend(scores.iter().map(|score| {
        Cell::maybe(run.score["scores"][score.key].as_f64(), |value| score.written(value))
    }));
    cells.extend([
        Cell::maybe(log.done["step"].as_f64(), whole),
        Cell::maybe(log.done["best"]["step"].as_f64(), whole),
        Cell::maybe(log.done["seconds"].as_f64(), |seconds| format!("{seconds:.1}")),
        Cell::long(run.path.display().to_string()),
        Cell::long(log.run["command"].as_str().unwrap_or_default()),
    ]);
    cells
}
