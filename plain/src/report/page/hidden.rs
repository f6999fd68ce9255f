//! Hidden states of texts, layer by layer, before and after fine-tuning.

use std::path::PathBuf;

use anyhow::Result;

use super::markup::{Cell, Markup, details, figure, folded, grid, key, paragraph, small, table};
use super::plot::{Axes, COLOURS, Kind, Series, cloud, plot};
use super::{Task, left_out};
use crate::report::arm::Arm;
use crate::report::states::{Layer, States, read};

const FILE: &str = "hidden.safetensors";
/// Models whose pictures show without being asked for.
const OPEN: usize = 2;

pub fn show(task: &Task) -> Result<Markup> {
    let found: Vec<(String, States)> = files(task)
        .into_iter()
        .map(|(name, path)| Ok((name, read(&path)?)))
        .collect::<Result<_>>()?;
    if found.is_empty() {
        return Ok(String::new());
    }
    let note = "A dot is a text, its colour the class. PCA keeps distances that are large, t-SNE neighbourhoods: how far \
                apart its heaps lie, and how large they are, says nothing. Layer 0 is the embeddings' output.";
    let mut body = paragraph(note)? + &grid(&alike(task, &found)?);
    for (at, (name, states)) in found.iter().enumerate() {
        body += &folded(name, &layers(name, states)?, at < OPEN)?;
    }
    let rows: Vec<Vec<Cell>> = found.iter().flat_map(|(name, states)| rows(name, states)).collect();
    let titles =
        ["model", "layer", "variance in two components, %", "nearest 10 of the same class, %"];
    Ok(body
        + &details("Numbers", &table(&format!("{}: hidden states", task.name()), &titles, &rows)?)?)
}

/// What there is: of each encoder before fine-tuning, and of the first run of an arm that has any.
fn files(task: &Task) -> Vec<(String, PathBuf)> {
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    for arm in task.arms {
        let folder = arm.runs.first().and_then(|run| run.path.ancestors().nth(3));
        let before = folder.map(|folder| folder.join(FILE)).filter(|path| path.exists());
        let before =
            before.map(|path| (format!("{}, before fine-tuning", arm.place.encoder), path));
        all.extend(before.filter(|new| all.iter().all(|known| known != new)));
    }
    for arm in task.arms {
        let after = arm.runs.iter().find(|run| run.beside(FILE).exists());
        all.extend(after.map(|run| (named(arm, &run.seed), run.beside(FILE))));
    }
    all
}

fn named(arm: &Arm, seed: &str) -> String {
    format!("{}, fine-tuned, seed {seed}", arm.name)
}

/// How well neighbourhoods know the classes, by layer.
fn alike(task: &Task, found: &[(String, States)]) -> Result<Vec<Markup>> {
    let (mut series, mut legend) = (Vec::new(), Vec::new());
    for (colour, (name, states)) in found.iter().enumerate().take(COLOURS) {
        let layers = states.layers.iter().enumerate();
        let points: Vec<(f64, f64)> =
            layers.filter_map(|(at, layer)| Some((at as f64, 100.0 * layer.alike?))).collect();
        if !points.is_empty() {
            series.push(Series { colour, points, kind: Kind::Marked });
            legend.push((colour, name.clone()));
        }
    }
    if series.is_empty() {
        return Ok(Vec::new());
    }
    let title = format!("{}: nearest 10 texts of the same class", task.name());
    let axes = Axes {
        title: &title,
        x: "layer",
        y: "percent",
        height: 230,
        across: None,
        up: None,
        names: &[],
    };
    let note = left_out(COLOURS, found.len(), "models");
    Ok(vec![figure(&title, &note, &plot(&axes, &series)?, &legend)?])
}

fn layers(name: &str, states: &States) -> Result<Markup> {
    let (colours, legend) = colours(states);
    let mut parts = Vec::new();
    for (at, layer) in states.layers.iter().enumerate() {
        for (method, points) in [("PCA", &layer.pca), ("t-SNE", &layer.tsne)] {
            if points.is_empty() {
                continue;
            }
            let title = format!("Layer {at}, {method}");
            let series = by_colour(points, &colours);
            parts.push(figure(&title, "", &cloud(&format!("{name}: {title}"), &series)?, &[])?);
        }
    }
    Ok(key(&legend)? + &small(&parts))
}

/// The colour of each text, and which class it is; the last colour is of all classes beyond the most frequent.
fn colours(states: &States) -> (Vec<usize>, Vec<(usize, String)>) {
    let mut counts = vec![0; states.names.len()];
    states.labels.iter().for_each(|label| counts[*label] += 1);
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|class| (std::cmp::Reverse(counts[*class]), *class));
    let own = if order.len() > COLOURS { COLOURS - 1 } else { COLOURS };
    order.truncate(own);
    order.sort_unstable();
    let colour =
        |label: &usize| order.iter().position(|class| class == label).unwrap_or(COLOURS - 1);
    let mut legend: Vec<(usize, String)> = order
        .iter()
        .enumerate()
        .map(|(colour, class)| (colour, states.names[*class].clone()))
        .collect();
    if states.names.len() > own {
        legend.push((COLOURS - 1, format!("{} further classes", states.names.len() - own)));
    }
    (states.labels.iter().map(colour).collect(), legend)
}

fn by_colour(points: &[(f64, f64)], colours: &[usize]) -> Vec<Series> {
    let of = |colour: usize| {
        let own = |(i, _): &(usize, &(f64, f64))| colours.get(*i).copied().unwrap_or(0) == colour;
        let points = points.iter().enumerate().filter(own).map(|(_, at)| *at).collect();
        Series { colour, points, kind: Kind::Dots }
    };
    (0..COLOURS).map(of).filter(|series| !series.points.is_empty()).collect()
}

fn rows(name: &str, states: &States) -> Vec<Vec<Cell>> {
    let percent = |share: f64| Cell::number(format!("{:.1}", 100.0 * share), share);
    let row = |(at, layer): (usize, &Layer)| {
        vec![
            Cell::text(name),
            Cell::number(at.to_string(), at as f64),
            percent(layer.explained),
            layer.alike.map_or_else(Cell::default, percent),
        ]
    };
    states.layers.iter().enumerate().map(row).collect()
}
