//! What each arm costs.

use std::fs;

use anyhow::Result;

use super::markup::{Cell, Markup, figure, grid, table};
use super::plot::{Axes, COLOURS, Kind, Series, plot};
use super::{Task, left_out, mean};
use crate::report::arm::Arm;
use crate::report::run::Run;
use crate::report::score::grouped;
use crate::report::spread::Spread;

pub fn show(task: &Task) -> Result<Markup> {
    let mut titles = vec![
        "arm",
        "seeds",
        "seconds of a fine-tuning",
        "seconds of adaptation",
        "tokens/s",
        "trained weights",
        "of all, %",
        "size on disk, MB",
    ];
    let mut rows: Vec<Vec<Cell>> = task.arms.iter().map(row).collect();
    for (title, key) in MEMORY {
        let most: Vec<Option<f64>> = task.arms.iter().map(|arm| arm.memory(key)).collect();
        if most.iter().any(Option::is_some) {
            titles.push(title);
            let cells = most.into_iter().map(|bytes| Cell::maybe(bytes, megabytes));
            rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
        }
    }
    Ok(grid(&drawn(task)?) + &table(&format!("{}: cost", task.name()), &titles, &rows)?)
}

/// The most that training took, adaptation included.
const MEMORY: [(&str, &str); 2] =
    [("most memory, MB", "max_rss"), ("most of the GPU, MB", "max_memory_allocated")];

fn megabytes(bytes: f64) -> String {
    grouped((bytes / 1e6).round() as u64)
}

fn row(arm: &Arm) -> Vec<Cell> {
    let all =
        |of: &dyn Fn(&Run) -> Option<f64>| -> Vec<f64> { arm.runs.iter().filter_map(of).collect() };
    let seconds = all(&|run| run.log.done["seconds"].as_f64());
    let trained = arm.trained() as f64;
    let parameters = arm.runs.last().and_then(|run| run.log.run["parameters"].as_f64());
    let rounded = |digits: usize| move |value: f64| format!("{value:.digits$}");
    vec![
        Cell::text(&arm.name),
        Cell::number(arm.runs.len().to_string(), arm.runs.len() as f64),
        Cell::maybe(mean(&seconds), |_| spread(&seconds)),
        Cell::number(format!("{:.0}", arm.adaptation()), arm.adaptation()),
        Cell::maybe(mean(&all(&speed)), |speed| grouped(speed as u64)),
        Cell::number(grouped(arm.trained()), trained),
        Cell::maybe(parameters.map(|all| 100.0 * trained / all.max(1.0)), rounded(2)),
        Cell::maybe(mean(&all(&size)), rounded(2)),
    ]
}

fn spread(seconds: &[f64]) -> String {
    let Some(Spread { mean, sd, .. }) = Spread::of(seconds) else { return String::new() };
    sd.map_or_else(|| format!("{mean:.1}"), |sd| format!("{mean:.1} ± {sd:.1}"))
}

/// Tokens a second at the end of the run.
fn speed(run: &Run) -> Option<f64> {
    run.log.steps.values().next_back()?["tokens_per_s"].as_f64()
}

/// What a run's own weights take: of an adapter, it alone. By the score, else by the file.
fn size(run: &Run) -> Option<f64> {
    let files = ["model.safetensors", "adapter_model.safetensors", "adapter.safetensors"];
    let on_disk = || files.iter().find_map(|name| fs::metadata(run.beside(name)).ok());
    let bytes = run.score["bytes"].as_u64().or_else(|| on_disk().map(|file| file.len()))?;
    Some(bytes as f64 / 1e6)
}

/// The first score against the seconds that it took, where there is more than one arm.
fn drawn(task: &Task) -> Result<Vec<Markup>> {
    let Some((score, _)) = task.base.scores.first().filter(|_| task.arms.len() > 1) else {
        return Ok(Vec::new());
    };
    let scale = if score.is_share { 100.0 } else { 1.0 };
    let (mut series, mut legend) = (Vec::new(), Vec::new());
    for (colour, arm) in task.arms.iter().enumerate().take(COLOURS) {
        let Some(reached) = arm.values(score).and_then(mean) else { continue };
        let seconds = arm.adaptation() + arm.seconds_of_one();
        series.push(Series {
            colour,
            points: vec![(seconds, scale * reached)],
            kind: Kind::Marked,
        });
        legend.push((colour, arm.name.clone()));
    }
    let title = format!("{}: {} against seconds of training", task.name(), score.title);
    let x = "seconds, adaptation and one fine-tuning";
    let y = format!("{}{}", score.title, if score.is_share { ", %" } else { "" });
    let axes = Axes { title: &title, x, y: &y, height: 230, across: None, up: None, names: &[] };
    let note = left_out(COLOURS, task.arms.len(), "arms");
    Ok(vec![figure(&title, &note, &plot(&axes, &series)?, &legend)?])
}
