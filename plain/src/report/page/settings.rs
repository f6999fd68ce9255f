//! The settings in which runs differ; what all have in common is in any log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use super::Task;
use super::markup::{Cell, Markup, table};
use crate::report::arm::Arm;

/// What differs by design, or says nothing of the result.
const PASSED_OVER: [&str; 5] = ["seed", "output", "threads", "quiet", "keep"];

/// Every setting that an arm's runs have, each with the values that occur.
type Settings = BTreeMap<String, BTreeSet<String>>;

pub fn show(task: &Task) -> Result<Markup> {
    let arms: Vec<Settings> = task.arms.iter().map(settings).collect();
    let names: BTreeSet<&String> = arms.iter().flat_map(BTreeMap::keys).collect();
    let differ = |name: &&&String| {
        let mut values = arms.iter().map(|arm| arm.get(**name));
        let first = values.next().flatten();
        first.is_some_and(|set| set.len() > 1) || values.any(|other| other != first)
    };
    let rows: Vec<Vec<Cell>> = names.iter().filter(differ).map(|name| row(name, &arms)).collect();
    if rows.is_empty() {
        return Ok(String::new());
    }
    let titles: Vec<&str> =
        ["setting"].into_iter().chain(task.arms.iter().map(|arm| arm.name.as_str())).collect();
    table(&format!("{}: settings that differ; seeds aside", task.name()), &titles, &rows)
}

fn row(name: &str, arms: &[Settings]) -> Vec<Cell> {
    let values = |arm: &Settings| -> String {
        let values: Vec<&str> = arm.get(name).into_iter().flatten().map(String::as_str).collect();
        values.join(" | ")
    };
    let cells = arms.iter().map(|arm| Cell::long(values(arm)));
    std::iter::once(Cell::text(name)).chain(cells).collect()
}

fn settings(arm: &Arm) -> Settings {
    let mut all = Settings::new();
    for run in &arm.runs {
        flatten("", &run.log.run["config"], &mut all);
        for key in ["device", "version", "dtype"] {
            flatten(key, &run.log.run[key], &mut all);
        }
    }
    all
}

/// `{"run": {"batch": 16}}` as `run.batch`; lists in one piece, null and empty ones not at all.
fn flatten(name: &str, value: &Value, into: &mut Settings) {
    let last = name.rsplit('.').next().unwrap_or(name);
    if PASSED_OVER.contains(&last) {
        return;
    }
    match value {
        Value::Null => {}
        Value::Array(list) if list.is_empty() => {}
        Value::Object(object) => {
            let joined =
                |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
            object.iter().for_each(|(key, value)| flatten(&joined(key), value, into));
        }
        Value::String(text) => drop(into.entry(name.to_owned()).or_default().insert(text.clone())),
        value => drop(into.entry(name.to_owned()).or_default().insert(value.to_string())),
    }
}
