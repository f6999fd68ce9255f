//! One page of HTML with everything in it: no network, no other file.

mod classes;
mod confusion;
mod cost;
mod curves;
mod hidden;
mod lengths;
mod markup;
mod models;
mod plot;
mod reliability;
mod runs;
mod scores;
mod settings;
mod warnings;

use anyhow::Result;
use askama::Template;

use super::arm::{Arm, baseline, tasks};
use markup::{Markup, Page, Section, heading};

/// One task of an experiment.
struct Task<'a> {
    arms: &'a [Arm],
    base: &'a Arm,
}

impl Task<'_> {
    fn name(&self) -> &str {
        &self.base.place.task
    }
}

/// The parts of the page: id, title, and what they show of a task.
type Part = (&'static str, &'static str, fn(&Task) -> Result<Markup>);

const PARTS: [Part; 11] = [
    ("warnings", "Warnings", warnings::show),
    ("arms", "Arms", scores::show),
    ("curves", "Learning curves", curves::show),
    ("confusion", "Confusion", confusion::show),
    ("classes", "Classes", classes::show),
    ("reliability", "Reliability", reliability::show),
    ("hidden", "Hidden states", hidden::show),
    ("lengths", "Lengths of texts", lengths::show),
    ("cost", "Cost", cost::show),
    ("settings", "Settings that differ", settings::show),
    ("runs", "Runs", runs::show),
];

/// The page of these arms, against the baseline that is asked for. Parts that have nothing to show are left out.
pub fn page(arms: &[Arm], title: &str, asked: Option<&str>) -> Result<String> {
    let tasks = tasks(arms).filter_map(|arms| Some(Task { arms, base: baseline(arms, asked)? }));
    let tasks: Vec<Task> = tasks.collect();
    let mut sections = Vec::new();
    for (id, title, show) in PARTS {
        let body = shown(&tasks, show)?;
        sections.extend((!body.is_empty()).then_some(Section { id, title, body }));
    }
    let (runs, seeds) =
        (arms.iter().map(|arm| arm.runs.len()).sum(), "over seeds where there are several");
    let about = format!(
        "{}, {}, {}. Shares are in percent; ± is the sample standard deviation {seeds}.",
        counted(tasks.len(), "task"),
        counted(arms.len(), "arm"),
        counted(runs, "run")
    );
    let (css, js) = (include_str!("page.css"), include_str!("page.js"));
    Ok(Page { title, about: &about, css, js, sections: &sections }.render()?)
}

/// What a part shows of every task, under the task's name where there are several.
fn shown(tasks: &[Task], show: fn(&Task) -> Result<Markup>) -> Result<Markup> {
    let mut all = String::new();
    for task in tasks {
        let body = show(task)?;
        if !body.is_empty() && tasks.len() > 1 {
            all += &heading(task.name())?;
        }
        all += &body;
    }
    Ok(all)
}

/// What a picture says that has room for the first so many only.
fn left_out(drawn: usize, all: usize, what: &str) -> String {
    match all > drawn {
        true => format!("The first {drawn} of {all} {what} are drawn; the table has all."),
        false => String::new(),
    }
}

/// `1 arm`, `2 arms`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The mean of what is there.
fn mean(values: &[f64]) -> Option<f64> {
    super::Spread::of(values).map(|spread| spread.mean)
}
