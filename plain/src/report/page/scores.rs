//! The arms: what each reaches, and whether it differs from the baseline.

use anyhow::Result;

use super::markup::{Cell, Markup, details, figure, grid, paragraph, table};
use super::plot::{Axes, Kind, Series, plot};
use super::{Task, left_out};
use crate::report::arm::Arm;
use crate::report::noise::{Difference, accuracy_interval, difference};
use crate::report::score::{Score, grouped};
use crate::report::spread::Spread;

/// Arms that a picture has room for.
const DRAWN: usize = 40;

pub fn show(task: &Task) -> Result<Markup> {
    let mut body = String::new();
    let scores: Vec<Score> = task.base.scores.iter().map(|(score, _)| *score).collect();
    let pictures: Vec<Markup> =
        scores.iter().map(|score| strips(task, score)).collect::<Result<_>>()?;
    body += &grid(&pictures);
    for score in &scores {
        body += &held_against(task, score)?;
    }
    body += &paragraph(&tests(task))?;
    if task.arms.iter().any(|arm| arm.degenerate().next().is_some()) {
        body += &paragraph("† Runs that tell nothing apart are among them, see Warnings.")?;
    }
    body += &details(
        "Every score: number of seeds, mean, standard deviation, least and largest",
        &every(task)?,
    )?;
    Ok(body)
}

/// A strip for each arm: a dot for every seed, a ring at the mean.
fn strips(task: &Task, score: &Score) -> Result<Markup> {
    let arms = &task.arms[..task.arms.len().min(DRAWN)];
    let scale = if score.is_share { 100.0 } else { 1.0 };
    let height = |place: usize| (arms.len() - place) as f64;
    let (mut series, mut names) = (Vec::new(), Vec::new());
    for (place, arm) in arms.iter().enumerate() {
        let values = arm.values(score).unwrap_or_default();
        let at = |value: &f64| (value * scale, height(place));
        series.push(Series {
            colour: 0,
            points: values.iter().filter(|value| value.is_finite()).map(at).collect(),
            kind: Kind::Dots,
        });
        let mean = Spread::of(values).map(|spread| at(&spread.mean));
        series.push(Series { colour: 1, points: mean.into_iter().collect(), kind: Kind::Marked });
        names.push((height(place), arm.name.clone()));
    }
    let title = format!("{} of {}", score.title, task.name());
    let x = if score.is_share { "percent" } else { "" };
    let height = 60 + 36 * arms.len() as u32;
    let up = Some(0.4..arms.len() as f64 + 0.9);
    let axes = Axes { title: &title, x, y: "", height, across: None, up, names: &names };
    let legend = [(0, "a seed".to_owned()), (1, "the mean".to_owned())];
    figure(&title, &left_out(arms.len(), task.arms.len(), "arms"), &plot(&axes, &series)?, &legend)
}

/// The table of a score: what arms reach, and their difference from the baseline.
fn held_against(task: &Task, score: &Score) -> Result<Markup> {
    let base = format!("less {}", task.base.name);
    let titles = [
        "arm",
        score.title,
        "seeds",
        &base,
        "95 % interval of the difference",
        "verdict",
        "test",
        "95 % interval",
        "trained weights",
    ];
    let mut rows: Vec<Vec<Cell>> = task.arms.iter().map(|arm| row(task, arm, score)).collect();
    rows.extend(trivial(task, score));
    table(&format!("{}: {}", task.name(), score.title), &titles, &rows)
}

fn row(task: &Task, arm: &Arm, score: &Score) -> Vec<Cell> {
    let values = arm.values(score).unwrap_or_default();
    let spread = Spread::of(values);
    let mean = Cell::maybe(spread.map(|spread| spread.mean), |_| marked(arm, score.spread(values)));
    let count = spread.map_or(0, |spread| spread.n);
    let mut cells = vec![
        Cell::text(&arm.name).noted(arm.place.arm()),
        mean,
        Cell::number(count.to_string(), count as f64),
    ];
    cells.extend(against(difference(arm, task.base, score), score));
    cells.extend([
        interval(arm, score, spread),
        Cell::number(grouped(arm.trained()), arm.trained() as f64),
    ]);
    cells
}

fn marked(arm: &Arm, text: String) -> String {
    if arm.degenerate().next().is_some() { text + " †" } else { text }
}

/// Over seeds, else over the texts of the one seed.
fn interval(arm: &Arm, score: &Score, spread: Option<Spread>) -> Cell {
    let seeds = spread.and_then(|spread| spread.interval());
    let told = || {
        let told = &arm.runs.first()?.score["intervals"][score.key];
        let known = told[0].as_f64().zip(told[1].as_f64());
        known.or_else(|| (score.key == "accuracy").then(|| accuracy_interval(&arm.runs[0]))?)
    };
    let (ends, over) = match seeds {
        Some(ends) => (Some(ends), "over seeds"),
        None => (told(), "over texts"),
    };
    ends.map_or_else(Cell::default, |ends| {
        let cell = between(ends, |value| score.written(score.within(value)));
        Cell { text: format!("{}, {over}", cell.text), ..cell }
    })
}

fn between((low, high): (f64, f64), written: impl Fn(f64) -> String) -> Cell {
    Cell::number(format!("{} to {}", written(low), written(high)), low)
}

fn against(found: Option<Difference>, score: &Score) -> [Cell; 4] {
    let Some(found) = found else { return Default::default() };
    let signed = |value: f64| score.signed(value);
    let (said, class) = match found.is_noise {
        Some(true) => ("≈ inside the noise", "noise"),
        Some(false) => ("differs", "differs"),
        None => ("not told", "noise"),
    };
    [
        Cell::number(signed(found.mean), found.mean),
        found.interval.map_or_else(Cell::default, |ends| between(ends, signed)),
        Cell { class, ..Cell::text(said) },
        Cell { class: "small", ..Cell::text(found.test.named()) },
    ]
}

/// What needs no encoder, as the scores of the baseline's runs have it.
fn trivial<'a>(task: &'a Task, score: &'a Score) -> impl Iterator<Item = Vec<Cell>> + 'a {
    let all = task.base.runs.first().and_then(|run| run.score["baselines"].as_object());
    all.into_iter().flatten().filter_map(|(name, scores)| {
        let value = scores[score.key].as_f64()?;
        let mut cells = vec![Cell::default(); 9];
        cells[0] = Cell::text(name.replace('_', " ")).noted("needs no encoder");
        cells[1] = Cell::number(score.written(value), value);
        Some(cells)
    })
}

/// Which tests were used, in a sentence.
fn tests(task: &Task) -> String {
    let of = |arm: &Arm, score: &Score| {
        let found = difference(arm, task.base, score)?;
        found.is_noise.map(|_| found.test.kind())
    };
    let mut kinds: Vec<&str> = task
        .arms
        .iter()
        .flat_map(|arm| arm.scores.iter().filter_map(move |(score, _)| of(arm, score)))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return match task.arms.len() {
            1 => "One arm: there is nothing to hold it against.".into(),
            _ => "One seed each: nothing tells these differences from chance.".into(),
        };
    }
    format!(
        "Differences are from {} ({}), by {}; of one seed, they are of that seed. A difference is inside the noise where its 95 % interval holds 0, \
         or where McNemar's p is 0.05 or more; Wilson's intervals that overlap tell nothing. Each arm is held against the baseline by itself: of \
         twenty arms that differ in nothing, one is expected to seem to differ. Intervals over seeds tell how much the \
         seed matters, not how much the choice of test texts does.",
        task.base.name,
        task.base.place.arm(),
        kinds.join("; ")
    )
}

/// Every number of the scores, over seeds.
fn every(task: &Task) -> Result<Markup> {
    let mut rows = Vec::new();
    for arm in task.arms {
        for name in names(arm) {
            let values: Vec<f64> =
                arm.runs.iter().filter_map(|run| named(&run.score, &name)).collect();
            let Some(spread) = Spread::of(&values) else { continue };
            let number = |value: f64| Cell::number(format!("{value:.4}"), value);
            rows.push(vec![
                Cell::text(&arm.name),
                Cell::text(&name),
                Cell::number(spread.n.to_string(), spread.n as f64),
                number(spread.mean),
                spread.sd.map_or_else(Cell::default, number),
                number(spread.min),
                number(spread.max),
            ]);
        }
    }
    let titles = ["arm", "score", "seeds", "mean", "sd", "least", "largest"];
    table(&format!("{}: every score", task.name()), &titles, &rows)
}

/// The scores that a run of the arm has.
fn names(arm: &Arm) -> Vec<String> {
    let Some(run) = arm.runs.first() else { return Vec::new() };
    let keys = |at: &str, before: &str| -> Vec<String> {
        let object = run.score[at].as_object();
        object
            .into_iter()
            .flat_map(|object| object.keys())
            .map(|key| format!("{before}{key}"))
            .collect()
    };
    let mut names = keys("scores", "");
    names.extend(keys("top_k", "accuracy of the top "));
    names.extend(["auc", "average_precision", "calibration error"].map(String::from));
    names
}

fn named(score: &serde_json::Value, name: &str) -> Option<f64> {
    let value = match name.strip_prefix("accuracy of the top ") {
        Some(k) => &score["top_k"][k],
        None => match name {
            "auc" | "average_precision" => &score[name],
            "calibration error" => &score["calibration"]["error"],
            name => &score["scores"][name],
        },
    };
    value.as_f64()
}
