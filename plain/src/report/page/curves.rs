//! Learning curves: training against validation, of every seed of an arm; and the loss of masked tokens of encoders.

use std::path::Path;

use anyhow::Result;

use super::Task;
use super::markup::{Cell, Markup, details, figure, folded, grid, paragraph, subheading, table};
use super::plot::{Axes, Kind, Series, plot, short};
use crate::report::arm::Arm;
use crate::report::log::Log;
use crate::report::score::{SCORES, Score};

/// Points of a curve at most; a longer one is drawn by means of so many parts.
const POINTS: usize = 150;
/// Arms whose curves show without being asked for.
const OPEN: usize = 12;

pub fn show(task: &Task) -> Result<Markup> {
    let mut body = pretraining(task)?;
    for arm in task.arms {
        let inside = fine_tuning(task, arm)?;
        if !inside.is_empty() {
            body +=
                &folded(&format!("{}: fine-tuning", arm.name), &inside, task.arms.len() <= OPEN)?;
        }
    }
    Ok(body)
}

/// Encoders that were adapted, by name: `TASK/ENCODER/log.jsonl`.
fn encoders(task: &Task) -> Vec<(String, Log)> {
    let mut names: Vec<&Arm> = task.arms.iter().collect();
    names.dedup_by(|a, b| a.place.encoder == b.place.encoder);
    let folder = |arm: &Arm| arm.runs.first()?.path.ancestors().nth(3).map(Path::to_owned);
    let log = |arm: &&Arm| Log::read(&folder(arm)?.join("log.jsonl")).ok();
    names.iter().filter_map(|arm| Some((arm.place.encoder.clone(), log(arm)?))).collect()
}

fn pretraining(task: &Task) -> Result<Markup> {
    let encoders = encoders(task);
    let (mut series, mut legend, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    for (colour, (name, log)) in encoders.iter().enumerate() {
        series.push(Series { colour, points: thinned(&log.curve("loss")), kind: Kind::Line });
        legend.push((colour, name.clone()));
        let scored =
            ["nats", "loss"].iter().map(|key| log.scored(key)).find(|points| !points.is_empty());
        series.extend(scored.map(|points| Series {
            colour,
            points: thinned(&points),
            kind: Kind::Marked,
        }));
    }
    let title = format!("{}: loss of masked tokens", task.name());
    let has_rings = series.iter().any(|series| series.kind == Kind::Marked);
    let note = if has_rings { "Rings: evaluation." } else { "" };
    pictures.extend(drawn(&title, "nats", &series, &legend, note)?);
    let (mut guards, mut legend) = (Vec::new(), Vec::new());
    for (colour, (name, log)) in
        encoders.iter().enumerate().filter(|(_, (_, log))| !log.guards.is_empty())
    {
        let points = log.guards.iter().map(|(step, nats)| (*step as f64, *nats)).collect();
        guards.push(Series { colour, points, kind: Kind::Marked });
        legend.push((colour, name.clone()));
    }
    let title = format!("{}: loss on the guard's text", task.name());
    pictures.extend(drawn(&title, "nats", &guards, &legend, "What is forgotten of general text.")?);
    if pictures.is_empty() {
        return Ok(String::new());
    }
    let rows: Vec<Vec<Cell>> =
        encoders.iter().flat_map(|(name, log)| steps(name, log, None)).collect();
    let numbers = table(
        &format!("{}: pretraining", task.name()),
        &["encoder", "step", "loss", "evaluated", "learning rate"],
        &without_last(rows),
    )?;
    Ok(subheading("Pretraining of encoders")? + &grid(&pictures) + &details("Numbers", &numbers)?)
}

/// A figure of curves against steps; nothing where there is no point.
fn drawn(
    title: &str,
    y: &str,
    series: &[Series],
    legend: &[(usize, String)],
    note: &str,
) -> Result<Option<Markup>> {
    if series.iter().all(|series| series.points.is_empty()) {
        return Ok(None);
    }
    let last =
        series.iter().flat_map(|series| &series.points).map(|point| point.0).reduce(f64::max);
    let across = last.filter(|last| *last > 0.0).map(|last| 0.0..1.02 * last);
    let axes = Axes { title, x: "step", y, height: 230, across, up: None, names: &[] };
    figure(title, note, &plot(&axes, series)?, legend).map(Some)
}

/// What evaluations are drawn by, the first that there is.
const DRAWN: [&str; 3] = ["accuracy", "pearson", "mse"];

fn fine_tuning(task: &Task, arm: &Arm) -> Result<Markup> {
    let curves = |colour: usize, kind: Kind, of: &dyn Fn(&Log) -> Vec<(f64, f64)>| -> Vec<Series> {
        let points = arm.runs.iter().map(|run| thinned(&of(&run.log)));
        points
            .filter(|points| !points.is_empty())
            .map(|points| Series { colour, points, kind })
            .collect()
    };
    let mut losses = curves(0, Kind::Line, &|log| log.curve("loss"));
    losses.extend(curves(1, Kind::Marked, &|log| log.scored("loss")));
    let names = [(0, "training".to_owned()), (1, "validation".to_owned())];
    let score = scored(arm);
    let (scale, unit) = if score.is_share { (100.0, ", %") } else { (1.0, "") };
    let evaluated = |log: &Log| -> Vec<(f64, f64)> {
        log.scored(score.key).into_iter().map(|(step, value)| (step, scale * value)).collect()
    };
    let titled = |what: &str| format!("{}: {what}", arm.name);
    let pictures: Vec<Markup> = [
        drawn(
            &titled("loss"),
            "loss",
            &losses,
            &names,
            &overfit(arm).map(|how| format!("Overfits: {how}")).unwrap_or_default(),
        )?,
        drawn(
            &titled(&format!("{} of validation", score.title)),
            &format!("{}{unit}", score.title),
            &curves(1, Kind::Marked, &evaluated),
            &names[1..],
            "",
        )?,
        drawn(
            &titled("learning rate"),
            "learning rate",
            &curves(2, Kind::Line, &|log| log.curve("lr")),
            &[],
            "",
        )?,
    ]
    .into_iter()
    .flatten()
    .collect();
    if pictures.is_empty() {
        return Ok(String::new());
    }
    let seeds = if arm.runs.len() > 1 { "A line for each seed." } else { "" };
    let rows: Vec<Vec<Cell>> =
        arm.runs.iter().flat_map(|run| steps(&run.seed, &run.log, Some(score))).collect();
    let titles = ["seed", "step", "training loss", "validation loss", "learning rate", score.title];
    let numbers = table(&format!("{} {}: curves", task.name(), arm.name), &titles, &rows)?;
    Ok(grid(&pictures) + &paragraph(seeds)? + &details("Numbers", &numbers)?)
}

fn scored(arm: &Arm) -> &'static Score {
    let has = |key: &&str| arm.runs.iter().any(|run| !run.log.scored(key).is_empty());
    let key = DRAWN.into_iter().find(has).unwrap_or(DRAWN[0]);
    SCORES.iter().find(|score| score.key == key).unwrap_or(&SCORES[0])
}

/// Seeds whose loss on validation rose again by a twentieth or more after its least.
pub fn overfit(arm: &Arm) -> Option<String> {
    let rose = |log: &Log| -> Option<f64> {
        let losses = log.scored("loss");
        let least = losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let last = losses.last()?;
        (last.1 > 1.05 * least.1).then_some(least.0)
    };
    let said = |(seed, step): (&str, f64)| format!("seed {seed} after step {step}");
    let all: Vec<String> = arm
        .runs
        .iter()
        .filter_map(|run| rose(&run.log).map(|step| said((&run.seed, step))))
        .collect();
    (!all.is_empty()).then(|| format!("the validation loss rises again, {}.", all.join(", ")))
}

/// The numbers behind the curves: a row for each evaluation, or where there is none, for some steps. Without a score they
/// are of pretraining.
fn steps(name: &str, log: &Log, score: Option<&Score>) -> Vec<Vec<Cell>> {
    let (losses, rates) = (log.curve("loss"), log.curve("lr"));
    let evaluated = log.scored(if score.is_some() { "loss" } else { "nats" });
    let scored = score.map(|score| log.scored(score.key)).unwrap_or_default();
    let every = losses.len().div_ceil(20).max(1);
    let mut at: Vec<f64> = evaluated.iter().map(|point| point.0).collect();
    if at.is_empty() {
        at = losses.iter().rev().step_by(every).map(|point| point.0).collect();
        at.reverse();
    }
    // A step's own number, or that of the last line before it.
    let before = |points: &[(f64, f64)], step: f64| {
        points.iter().rev().find(|point| point.0 <= step).map(|point| point.1)
    };
    let own = |points: &[(f64, f64)], step: f64| {
        points.iter().find(|point| point.0 == step).map(|point| point.1)
    };
    let number = |value: Option<f64>| Cell::maybe(value, |value| format!("{value:.4}"));
    let row = |step: f64| {
        vec![
            Cell::text(name),
            Cell::number(step.to_string(), step),
            number(before(&losses, step)),
            number(own(&evaluated, step)),
            Cell::maybe(before(&rates, step), short),
            Cell::maybe(own(&scored, step), |value| {
                score.map_or_else(String::new, |score| score.written(value))
            }),
        ]
    };
    at.into_iter().map(row).collect()
}

fn without_last(mut rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    rows.iter_mut().for_each(|row| drop(row.pop()));
    rows
}

/// A curve by means of its parts, where it has more points than can be seen.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let last = part.last().map_or(0.0, |point| point.0);
        (last, part.iter().map(|point| point.1).sum::<f64>() / part.len() as f64)
    };
    points.chunks(size).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_means_of_parts() {
        let points: Vec<(f64, f64)> = (0..1000).map(|step| (f64::from(step), 1.0)).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0], thin[142]), (143, (6.0, 1.0), (999.0, 1.0)));
        assert_eq!(thinned(&[(1.0, 2.0), (2.0, 4.0)]), [(1.0, 2.0), (2.0, 4.0)]);
    }
}
