//! The table, for the eye and for Markdown.

use super::arm::{Arm, baseline, tasks};
use super::noise::{Difference, difference};
use super::score::{SCORES, Score, grouped};

/// The scores that one of the arms has.
pub fn columns(arms: &[Arm]) -> Vec<Score> {
    SCORES.into_iter().filter(|score| arms.iter().any(|arm| arm.values(score).is_some())).collect()
}

fn head(columns: &[Score]) -> Vec<String> {
    let titles = columns.iter().map(|score| score.title);
    ["task", "arm", "seeds"]
        .into_iter()
        .chain(titles)
        .chain(["trained"])
        .map(String::from)
        .collect()
}

/// The cells of an arm, empty where it has no such score.
fn row(arm: &Arm, columns: &[Score]) -> Vec<String> {
    let marks = [(" †", arm.degenerate().next().is_some()), (" ‡", arm.leaks().next().is_some())];
    let mut marks: String = marks.iter().filter(|(_, is)| *is).map(|(mark, _)| *mark).collect();
    let cell = |score: &Score| match arm.values(score) {
        Some(values) => score.spread(values) + &std::mem::take(&mut marks),
        None => String::new(),
    };
    let mut cells = vec![arm.place.task.clone(), arm.name.clone(), arm.runs.len().to_string()];
    cells.extend(columns.iter().map(cell));
    cells.push(grouped(arm.trained()));
    cells
}

/// What the marks of scores mean, for each run: to come below a table, after an empty line.
fn footnote(arms: &[Arm]) -> String {
    let said = |arm: &Arm, seed: &str, how: &str| {
        format!("{} {}, seed {seed}: {how}", arm.place.task, arm.name)
    };
    let note = |mark: &str, runs: Vec<String>| match runs.join("; ") {
        none if none.is_empty() => none,
        runs => format!("\n{mark}: {runs}\n"),
    };
    let degenerate = |arm| Arm::degenerate(arm).map(move |(seed, how)| said(arm, seed, how));
    let leaks = |arm| Arm::leaks(arm).map(move |(seed, how)| said(arm, seed, &how));
    note("† with degenerate runs", arms.iter().flat_map(degenerate).collect())
        + &note("‡ no test scores", arms.iter().flat_map(leaks).collect())
}

/// A table for the terminal, with the seconds of training.
pub fn text(arms: &[Arm]) -> String {
    let columns = columns(arms);
    let mut rows = vec![head(&columns)];
    rows.extend(arms.iter().map(|arm| row(arm, &columns)));
    rows[0].push("seconds".into());
    for (row, arm) in rows[1..].iter_mut().zip(arms) {
        row.push(format!("{:.0}", arm.seconds()));
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let pad = |(column, cell): (usize, &String)| match column {
        0 | 1 => format!("{cell:<0$}", widths[column]),
        _ => format!("{cell:>0$}", widths[column]),
    };
    let line =
        |row: &Vec<String>| row.iter().enumerate().map(pad).collect::<Vec<_>>().join("  ") + "\n";
    rows.iter().map(line).collect::<String>() + &footnote(arms)
}

/// A Markdown table of what a rerun gives again: no seconds in it. Where there is more than one arm, the last column
/// holds the first score against the baseline.
pub fn markdown(arms: &[Arm], asked: Option<&str>) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let columns = columns(arms);
    let found: Vec<Option<Compared>> =
        tasks(arms).flat_map(|task| task.iter().map(|arm| compared(arm, task, asked))).collect();
    let mut head = head(&columns);
    head.extend(found.iter().any(Option::is_some).then(|| "against the baseline".to_owned()));
    let mut table = format!("{}| --- | --- |{}\n", line(&head), " ---: |".repeat(head.len() - 2));
    for (arm, found) in arms.iter().zip(&found) {
        let mut cells = row(arm, &columns);
        cells.extend((head.len() > cells.len()).then(|| against(found)));
        table += &line(&cells);
    }
    table + &footnote(arms) + &tests(&found)
}

/// An arm's first score against the baseline of its task.
type Compared = (Score, Difference);

fn compared(arm: &Arm, task: &[Arm], asked: Option<&str>) -> Option<Compared> {
    let (score, _) = arm.scores.first()?;
    Some((*score, difference(arm, baseline(task, asked)?, score)?))
}

/// `+1.20 [0.30, 2.10]`, with a mark where it is inside the noise.
pub fn against(found: &Option<Compared>) -> String {
    let Some((score, found)) = found else { return String::new() };
    let interval = found
        .interval
        .map(|(low, high)| format!(" [{}, {}]", score.signed(low), score.signed(high)));
    let mark = match found.is_noise {
        Some(true) => " ≈",
        Some(false) => "",
        None => " ?",
    };
    score.signed(found.mean) + &interval.unwrap_or_default() + mark
}

/// How the last column was made.
fn tests(found: &[Option<Compared>]) -> String {
    let mut kinds: Vec<&str> = found.iter().flatten().map(|(_, found)| found.test.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return String::new();
    }
    let kinds = kinds.join(", ");
    format!(
        "\nAgainst the baseline: the first score of the row, with its 95 % interval where there is one ({kinds}). ≈ inside the noise, ? not told.\n"
    )
}
