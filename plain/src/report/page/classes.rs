//! Scores of each class.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::Value;

use super::Task;
use super::markup::{Cell, Markup, details, paragraph, table};
use crate::report::arm::Arm;
use crate::report::score::{SCORES, grouped};
use crate::report::spread::Spread;

/// Classes that are shown; of more, those with the most texts.
const SHOWN: usize = 300;

/// Of a class in an arm: precision, recall and F1 of each run, and its texts.
#[derive(Default)]
struct Class {
    values: [Vec<f64>; 3],
    support: u64,
}

const KEYS: [&str; 3] = ["precision", "recall", "f1"];

/// An arm's classes by name, and their order.
struct Classes {
    order: Vec<String>,
    by_name: HashMap<String, Class>,
}

impl Classes {
    fn of(arm: &Arm) -> Self {
        let mut all = Self { order: Vec::new(), by_name: HashMap::new() };
        for run in &arm.runs {
            for entry in run.score["per_class"].as_array().into_iter().flatten() {
                all.add(entry);
            }
        }
        all
    }

    fn add(&mut self, entry: &Value) {
        let Some(name) = entry["label"].as_str() else { return };
        if !self.by_name.contains_key(name) {
            self.order.push(name.to_owned());
        }
        let class = self.by_name.entry(name.to_owned()).or_default();
        for (values, key) in class.values.iter_mut().zip(KEYS) {
            values.extend(entry[key].as_f64());
        }
        class.support = entry["support"].as_u64().unwrap_or(0);
    }
}

pub fn show(task: &Task) -> Result<Markup> {
    let arms: Vec<(&Arm, Classes)> = task.arms.iter().map(|arm| (arm, Classes::of(arm))).collect();
    let names = names(&arms);
    if names.is_empty() {
        return Ok(String::new());
    }
    let titles: Vec<&str> = ["class", "texts"]
        .into_iter()
        .chain(arms.iter().map(|(arm, _)| arm.name.as_str()))
        .collect();
    let rows: Vec<Vec<Cell>> = names.iter().map(|name| row(name, &arms)).collect();
    let mut body = table(&format!("{}: F1 of each class", task.name()), &titles, &rows)?;
    let known = arms.iter().map(|(_, classes)| classes.order.len()).max().unwrap_or(0);
    if known > names.len() {
        body += &paragraph(&format!(
            "The {} classes with the most texts, of {known}; the files of scores have all.",
            names.len()
        ))?;
    }
    let titles = ["class", "arm", "texts", "precision", "recall", "F1"];
    let rows: Vec<Vec<Cell>> =
        names.iter().flat_map(|name| arms.iter().filter_map(|arm| full_row(name, arm))).collect();
    let all = table(&format!("{}: precision and recall", task.name()), &titles, &rows)?;
    Ok(body + &details("Precision and recall", &all)?)
}

/// The classes to show, in order.
fn names(arms: &[(&Arm, Classes)]) -> Vec<String> {
    let Some((_, first)) = arms.iter().max_by_key(|(_, classes)| classes.order.len()) else {
        return Vec::new();
    };
    let mut names = first.order.clone();
    if names.len() > SHOWN {
        names.sort_by_key(|name| std::cmp::Reverse(first.by_name[name].support));
        names.truncate(SHOWN);
    }
    names
}

/// A share over seeds, as dark as it is large.
fn share(values: &[f64]) -> Cell {
    let mean = Spread::of(values).map(|spread| spread.mean);
    // Percent with two digits, as accuracy is written.
    let written = SCORES[0].spread(values);
    mean.map_or_else(Cell::default, |mean| Cell::number(written, mean).shaded(mean))
}

fn row(name: &str, arms: &[(&Arm, Classes)]) -> Vec<Cell> {
    let of = |classes: &Classes| classes.by_name.get(name).map(|class| class.support);
    let support = arms.iter().find_map(|(_, classes)| of(classes)).unwrap_or(0);
    let mut cells = vec![Cell::text(name), Cell::number(grouped(support), support as f64)];
    let f1 = |classes: &Classes| classes.by_name.get(name).map(|class| share(&class.values[2]));
    cells.extend(arms.iter().map(|(_, classes)| f1(classes).unwrap_or_default()));
    cells
}

fn full_row(name: &str, (arm, classes): &(&Arm, Classes)) -> Option<Vec<Cell>> {
    let class = classes.by_name.get(name)?;
    let mut cells = vec![Cell::text(name), Cell::text(&arm.name)];
    cells.push(Cell::number(grouped(class.support), class.support as f64));
    cells.extend(class.values.iter().map(|values| share(values)));
    Some(cells)
}
