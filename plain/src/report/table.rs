//! The table, for the eye and for Markdown.

use super::arm::{Arm, baseline, tasks};
use super::noise::{Difference, difference};
use super::score::{SCORES, Score, grouped};
use super::spread::Spread;

/// The scores that one of the arms has.
pub fn columns(arms: &[Arm]) -> Vec<Score> {
    SCORES.into_iter().filter(|score| arms.iter().any(|arm| arm.values(score).is_some())).collect()
}

/// A table: its head, then a row for each arm; and what its columns mean, to come below it after an empty line.
struct Table {
    rows: Vec<Vec<String>>,
    notes: String,
}

impl Table {
    /// The last columns say of the first score of a row how far seeds lie apart, and how it differs from the baseline's; they
    /// are left out where no row has them.
    fn new(arms: &[Arm], asked: Option<&str>, with_seconds: bool) -> Self {
        let columns = columns(arms);
        let found: Vec<Option<Compared>> = tasks(arms)
            .flat_map(|task| task.iter().map(|arm| compared(arm, task, asked)))
            .collect();
        let ranges: Vec<String> = arms.iter().map(range).collect();
        let has_ranges = ranges.iter().any(|range| !range.is_empty());
        let has_found = found.iter().any(Option::is_some);
        let mut head: Vec<&str> = vec!["task", "arm", "seeds"];
        head.extend(columns.iter().map(|score| score.title));
        head.push("trained");
        head.extend(with_seconds.then_some("seconds"));
        head.extend(has_ranges.then_some(RANGE));
        head.extend(has_found.then_some(AGAINST));
        let mut rows = vec![head.into_iter().map(String::from).collect()];
        for (arm, (found, range)) in arms.iter().zip(found.iter().zip(ranges)) {
            let mut cells = row(arm, &columns);
            cells.extend(with_seconds.then(|| format!("{:.0}", arm.seconds())));
            cells.extend(has_ranges.then_some(range));
            cells.extend(has_found.then(|| against(found)));
            rows.push(cells);
        }
        Self { rows, notes: footnote(arms) + &explained(has_ranges, &found) }
    }
}

const RANGE: &str = "min to max";
const AGAINST: &str = "against the baseline";

/// The least and the largest value of the first score over seeds; nothing of one seed.
fn range(arm: &Arm) -> String {
    let spread = arm.scores.first().and_then(|(score, values)| Some((score, Spread::of(values)?)));
    let several = spread.filter(|(_, spread)| spread.n > 1);
    several.map_or_else(String::new, |(score, spread)| {
        format!("{} to {}", score.written(spread.min), score.written(spread.max))
    })
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
    let degenerate = |arm| Arm::degenerate(arm).map(move |(seed, how)| said(arm, seed, &how));
    let leaks = |arm| Arm::leaks(arm).map(move |(seed, how)| said(arm, seed, &how));
    note("† with degenerate runs", arms.iter().flat_map(degenerate).collect())
        + &note("‡ no test scores", arms.iter().flat_map(leaks).collect())
}

/// A table for the terminal, with the seconds of training.
pub fn text(arms: &[Arm], asked: Option<&str>) -> String {
    let Table { rows, notes } = Table::new(arms, asked, true);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let pad = |(column, cell): (usize, &String)| match column {
        0 | 1 => format!("{cell:<0$}", widths[column]),
        _ => format!("{cell:>0$}", widths[column]),
    };
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().enumerate().map(pad).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect::<String>() + &notes
}

/// A Markdown table of what a rerun gives again: no seconds in it.
pub fn markdown(arms: &[Arm], asked: Option<&str>) -> String {
    let Table { rows, notes } = Table::new(arms, asked, false);
    let line = |cells: &Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = format!("| --- | --- |{}\n", " ---: |".repeat(rows[0].len() - 2));
    let (head, rows) = rows.split_at(1);
    line(&head[0]) + &rule + &rows.iter().map(line).collect::<String>() + &notes
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

/// How the last columns were made.
fn explained(has_ranges: bool, found: &[Option<Compared>]) -> String {
    let mut kinds: Vec<&str> = found.iter().flatten().map(|(_, found)| found.test.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let kinds = kinds.join(", ");
    let range = has_ranges.then(|| format!("{RANGE} over seeds"));
    let against = (!kinds.is_empty()).then(|| {
        format!("{AGAINST}, with the 95 % interval of the difference where there is one ({kinds})")
    });
    let said: Vec<String> = range.into_iter().chain(against).collect();
    let marks = if kinds.is_empty() { "" } else { " ≈ inside the noise, ? not told." };
    match said.join("; ") {
        none if none.is_empty() => none,
        said => format!("\nOf the first score of a row: {said}.{marks}\n"),
    }
}
