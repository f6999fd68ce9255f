//! Which classes are taken for which.

use std::collections::BTreeMap;

use anyhow::Result;
use askama::Template;
use serde_json::Value;

use super::Task;
use super::markup::{Cell, Markup, Matrix, folded, in_row, paragraph, table};
use crate::report::arm::Arm;
use crate::report::run::Run;
use crate::report::score::grouped;

/// Classes that a matrix has room for; of more, the pairs are listed that are taken for another most often.
const CLASSES: usize = 20;
const PAIRS: usize = 50;
/// Arms that show without being asked for.
const OPEN: usize = 12;

/// Texts by gold and predicted class, over the seeds of an arm. Names are in the order of the runs.
#[derive(Default)]
struct Counts {
    names: Vec<String>,
    cells: BTreeMap<(usize, usize), u64>,
}

impl Counts {
    fn of(arm: &Arm) -> Self {
        let mut all = Self::default();
        arm.runs.iter().for_each(|run| all.add(run));
        all
    }

    fn add(&mut self, run: &Run) {
        let confusion = &run.score["confusion"];
        let named = |at: &Value, i: usize| at[i].as_str().map(str::to_owned);
        for (i, row) in confusion["counts"].as_array().into_iter().flatten().enumerate() {
            for (j, count) in row.as_array().into_iter().flatten().enumerate() {
                let names = named(&confusion["gold"], i).zip(named(&confusion["pred"], j));
                self.count(names, count);
            }
        }
        for cell in confusion["cells"].as_array().into_iter().flatten() {
            self.count(named(cell, 0).zip(named(cell, 1)), &cell[2]);
        }
    }

    fn count(&mut self, names: Option<(String, String)>, count: &Value) {
        let (Some((gold, pred)), Some(count)) = (names, count.as_u64()) else { return };
        let at = (self.find(gold), self.find(pred));
        *self.cells.entry(at).or_default() += count;
    }

    fn find(&mut self, name: String) -> usize {
        self.names.iter().position(|own| *own == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    fn get(&self, gold: usize, pred: usize) -> u64 {
        self.cells.get(&(gold, pred)).copied().unwrap_or(0)
    }

    /// Texts of each gold class.
    fn golds(&self) -> Vec<u64> {
        let mut golds = vec![0; self.names.len()];
        self.cells.iter().for_each(|((gold, _), count)| golds[*gold] += count);
        golds
    }
}

pub fn show(task: &Task) -> Result<Markup> {
    let mut parts = Vec::new();
    for arm in task.arms {
        let counts = Counts::of(arm);
        let seeds = if arm.runs.len() > 1 {
            format!(", {} seeds together", arm.runs.len())
        } else {
            String::new()
        };
        let caption = format!("{}, {}{seeds}", task.name(), arm.name);
        match counts.names.len() {
            0 => {}
            1..=CLASSES => parts.push(matrix(&counts, &caption)?),
            _ => parts.push(pairs(&counts, &caption)?),
        }
    }
    if parts.is_empty() {
        return Ok(String::new());
    }
    let note = "Rows are the classes that texts have, columns those that were predicted. The stronger the colour, the larger \
                the share of the row; outlined cells are right.";
    let (shown, rest) = parts.split_at(parts.len().min(OPEN));
    let mut body = paragraph(note)? + &in_row(shown);
    if !rest.is_empty() {
        body += &folded(&format!("{} further arms", rest.len()), &in_row(rest), false)?;
    }
    Ok(body)
}

fn matrix(counts: &Counts, caption: &str) -> Result<Markup> {
    let (golds, places) = (counts.golds(), 0..counts.names.len());
    let cell = |gold: usize, pred: usize| {
        let count = counts.get(gold, pred);
        let share = count as f64 / golds[gold].max(1) as f64;
        let said = format!(
            "{:.1} % of {} predicted as {}",
            100.0 * share,
            counts.names[gold],
            counts.names[pred]
        );
        let class = if gold == pred { "number shade right" } else { "number shade" };
        Cell { class, ..Cell::number(grouped(count), count as f64).shaded(share).noted(said) }
    };
    let row = |gold: usize| {
        (counts.names[gold].clone(), places.clone().map(|pred| cell(gold, pred)).collect())
    };
    let rows = places.clone().map(row).collect();
    let columns = counts.names.clone();
    let matrix = Matrix { caption, down: "gold", across: "predicted", columns, rows };
    Ok(format!("<div>{}</div>\n", matrix.render()?))
}

/// The most frequent mistakes, where there are too many classes for a matrix.
fn pairs(counts: &Counts, caption: &str) -> Result<Markup> {
    let golds = counts.golds();
    let mut wrong: Vec<(&(usize, usize), &u64)> =
        counts.cells.iter().filter(|((gold, pred), count)| gold != pred && **count > 0).collect();
    wrong.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let row = |(&(gold, pred), &count): (&(usize, usize), &u64)| {
        let share = count as f64 / golds[gold].max(1) as f64;
        vec![
            Cell::text(&counts.names[gold]),
            Cell::text(&counts.names[pred]),
            Cell::number(grouped(count), count as f64),
            Cell::number(format!("{:.1}", 100.0 * share), share).shaded(share),
        ]
    };
    let rows: Vec<Vec<Cell>> = wrong.into_iter().take(PAIRS).map(row).collect();
    let caption = format!("{caption}: the {} most frequent mistakes", rows.len());
    let inside = table(&caption, &["gold", "predicted", "texts", "% of gold"], &rows)?;
    Ok(format!("<div>{inside}</div>\n"))
}
