//! What makes a number less worth than it looks.

use std::collections::BTreeSet;

use anyhow::Result;

use super::curves::overfit;
use super::markup::{Markup, list};
use super::{Task, mean};
use crate::report::arm::Arm;
use crate::report::run::Run;

pub fn show(task: &Task) -> Result<Markup> {
    let mut said: Vec<String> = task.arms.iter().flat_map(of_arm).collect();
    said.extend(of_task(task));
    if said.is_empty() { Ok(String::new()) } else { list("warnings", &said) }
}

fn of_arm(arm: &Arm) -> Vec<String> {
    let mut said: Vec<String> = arm.runs.iter().flat_map(|run| of_run(arm, run)).collect();
    said.extend(overfit(arm).map(|how| format!("{} overfits: {how}", arm.name)));
    if arm.runs.len() == 1 {
        said.push(format!("{}: one seed does not tell how much the seed matters.", arm.name));
    }
    said.extend(no_better(arm));
    said
}

/// An arm that what needs no encoder does as well as.
fn no_better(arm: &Arm) -> Option<String> {
    let (score, values) = arm.scores.first()?;
    let (reached, baselines) = (mean(values)?, arm.runs.first()?.score["baselines"].as_object()?);
    let trivial = baselines.iter().filter_map(|(name, own)| Some((name, own[score.key].as_f64()?)));
    let (name, best) = trivial.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (reached <= best).then(|| {
        let [reached, best] = [reached, best].map(|value| score.written(value));
        format!(
            "{} is no better than {}, which needs no encoder: {} {reached}, not over {best}.",
            arm.name,
            name.replace('_', " "),
            score.title
        )
    })
}

fn of_run(arm: &Arm, run: &Run) -> Vec<String> {
    let named = format!("{}, seed {}", arm.name, run.seed);
    let mut said = Vec::new();
    said.extend(run.degenerate().map(|how| format!("{named} is degenerate: {how}.")));
    let texts = run.score["seen"]["texts"].as_u64().unwrap_or(0);
    let seen = run.seen();
    said.extend(
        seen.map(|(n, stage)| format!("{named}: {n} of {texts} test texts were seen in {stage}.")),
    );
    if run.is_chosen_on_test() {
        said.push(format!("{named}: its weights were chosen on the very texts that are scored."));
    }
    if run.log.skipped > 0 {
        said.push(format!(
            "{named}: {} steps were passed over, their loss being no number.",
            run.log.skipped
        ));
    }
    if run.log.done.is_null() {
        said.push(format!("{named}: its log does not say that it is done."));
    }
    said
}

/// Arms that cannot be compared as they are.
fn of_task(task: &Task) -> Vec<String> {
    let runs = || task.arms.iter().flat_map(|arm| &arm.runs);
    let differ = |what: &str, of: &dyn Fn(&Run) -> Option<String>| {
        let all: BTreeSet<String> = runs().filter_map(of).collect();
        let all: Vec<String> = all.into_iter().collect();
        (all.len() > 1).then(|| format!("Runs differ in {what}: {}.", all.join(", ")))
    };
    let said = |key: &'static str| move |run: &Run| run.log.run[key].as_str().map(str::to_owned);
    [
        differ("the version of tapt", &said("version")),
        differ("the numbers they are computed in", &said("dtype")),
        differ("the number of texts that are scored", &|run| {
            Some(run.score["examples"].as_u64()?.to_string())
        }),
        differ("the shard that is scored", &|run| run.score["shard"].as_str().map(str::to_owned)),
    ]
    .into_iter()
    .flatten()
    .collect()
}
