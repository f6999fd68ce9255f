//! Reliability diagrams: how often a model is right where it says it is (DeGroot and Fienberg 1983; Guo et al. 2017).

use anyhow::Result;

use super::markup::{Cell, Markup, details, figure, grid, paragraph, table};
use super::plot::{Axes, Kind, Series, plot};
use super::{Task, mean};
use crate::report::arm::Arm;
use crate::report::run::Run;
use crate::report::score::grouped;

/// Predictions of one bin, over the seeds of an arm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    count: f64,
    said: f64,
    right: f64,
}

pub fn show(task: &Task) -> Result<Markup> {
    let arms: Vec<(&Arm, Vec<Bin>)> = task.arms.iter().map(|arm| (arm, bins(arm))).collect();
    let arms: Vec<_> = arms.into_iter().filter(|(_, bins)| !bins.is_empty()).collect();
    if arms.is_empty() {
        return Ok(String::new());
    }
    let pictures: Vec<Markup> =
        arms.iter().map(|(arm, bins)| diagram(arm, bins)).collect::<Result<_>>()?;
    let note = "On the thin line, a model is right as often as it says. Below it, it is too sure of itself. The error is \
                the mean distance from the line, over predictions. Where texts have any number of labels, each label of \
                each text is a prediction, its confidence the label's probability, and it is right where the text has it.";
    let rows: Vec<Vec<Cell>> =
        arms.iter().flat_map(|(arm, bins)| bins.iter().map(|bin| row(arm, bin))).collect();
    let titles = ["arm", "predictions", "mean confidence, %", "right, %"];
    let numbers = table(&format!("{}: reliability", task.name()), &titles, &rows)?;
    Ok(paragraph(note)? + &grid(&pictures) + &details("Numbers", &numbers)?)
}

/// The bins of all seeds together; those without a prediction are left out.
fn bins(arm: &Arm) -> Vec<Bin> {
    let mut all: Vec<Bin> = Vec::new();
    for run in &arm.runs {
        let bins = run.score["calibration"]["bins"].as_array();
        for (at, bin) in bins.into_iter().flatten().enumerate() {
            let number = |key: &str| bin[key].as_f64().unwrap_or(0.0);
            all.resize(all.len().max(at + 1), Bin::default());
            all[at].count += number("count");
            all[at].said += number("count") * number("said");
            all[at].right += number("count") * number("right");
        }
    }
    all.retain(|bin| bin.count > 0.0);
    all.into_iter()
        .map(|Bin { count, said, right }| Bin { count, said: said / count, right: right / count })
        .collect()
}

fn diagram(arm: &Arm, bins: &[Bin]) -> Result<Markup> {
    let points = bins.iter().map(|bin| (100.0 * bin.said, 100.0 * bin.right)).collect();
    let series = [
        Series { colour: 0, points: vec![(0.0, 0.0), (100.0, 100.0)], kind: Kind::Guide },
        Series { colour: 0, points, kind: Kind::Marked },
    ];
    let title = format!("{}: reliability", arm.name);
    let ends = || Some(0.0..100.0);
    let axes = Axes {
        title: &title,
        x: "confidence, %",
        y: "right, %",
        height: 260,
        across: ends(),
        up: ends(),
        names: &[],
    };
    figure(&title, &errors(arm), &plot(&axes, &series)?, &[])
}

/// The means over seeds: of the calibration error, and of it at the temperature that was fitted.
fn errors(arm: &Arm) -> String {
    let told = |path: &str| {
        let number = |run: &Run| run.score.pointer(path)?.as_f64();
        mean(&arm.runs.iter().filter_map(number).collect::<Vec<_>>())
    };
    let Some(error) = told("/calibration/error") else { return String::new() };
    let scaled = told("/calibration/scaled/error").zip(told("/calibration/temperature"));
    let scaled = scaled.map(|(error, temperature)| {
        format!("; {:.2} % at temperature {temperature:.2}, fitted on other texts", 100.0 * error)
    });
    format!("calibration error {:.2} %{}", 100.0 * error, scaled.unwrap_or_default())
}

fn row(arm: &Arm, bin: &Bin) -> Vec<Cell> {
    let percent = |share: f64| Cell::number(format!("{:.2}", 100.0 * share), share);
    let count = Cell::number(grouped(bin.count as u64), bin.count);
    vec![Cell::text(&arm.name), count, percent(bin.said), percent(bin.right)]
}
