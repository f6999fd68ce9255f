//! The table, for the eye and for Markdown.

use super::{Arm, SCORES, Score};

/// Mean and sample standard deviation, shares in percent, others to 4 digits; of one run the value alone.
fn spread(values: &[f64], is_share: bool) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let written = |value: f64| match is_share {
        true => format!("{:.2}", 100.0 * value),
        false => format!("{value:.4}"),
    };
    if values.len() < 2 {
        return written(mean);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    format!("{} ± {}", written(mean), written(variance.sqrt()))
}

/// 1234567 as 1,234,567.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let lead = digits.len() % 3;
    let groups = digits.as_bytes()[lead..].chunks(3).map(String::from_utf8_lossy);
    let head = (lead > 0).then(|| digits[..lead].into());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// The scores that one of the arms has.
fn columns(arms: &[Arm]) -> Vec<Score> {
    let has = |score: &Score| arms.iter().any(|arm| arm.scores.iter().any(|(own, _)| own == score));
    SCORES.into_iter().filter(has).collect()
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
    let seeds = arm.scores.first().map_or(0, |(_, values)| values.len());
    let mut mark = if arm.degenerate.is_empty() { "" } else { " †" };
    let cell = |score: &Score| match arm.scores.iter().find(|(own, _)| own == score) {
        Some((_, values)) => spread(values, score.is_share) + std::mem::take(&mut mark),
        None => String::new(),
    };
    let mut cells = vec![arm.task.clone(), arm.name.clone(), seeds.to_string()];
    cells.extend(columns.iter().map(cell));
    cells.push(grouped(arm.trained));
    cells
}

/// What the mark of a score means, for each run: to come below a table, after an empty line.
fn footnote(arms: &[Arm]) -> String {
    let said = |arm: &Arm, (seed, how): &(String, String)| {
        format!("{} {}, seed {seed}: {how}", arm.task, arm.name)
    };
    let runs = arms.iter().flat_map(|arm| arm.degenerate.iter().map(move |run| said(arm, run)));
    match runs.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => none,
        runs => format!("\n† with degenerate runs: {runs}\n"),
    }
}

/// A table for the terminal, with the seconds of training.
pub fn text(arms: &[Arm]) -> String {
    let columns = columns(arms);
    let mut rows = vec![head(&columns)];
    rows.extend(arms.iter().map(|arm| row(arm, &columns)));
    rows[0].push("seconds".into());
    for (row, arm) in rows[1..].iter_mut().zip(arms) {
        row.push(format!("{:.0}", arm.seconds));
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

/// A Markdown table of what a rerun gives again: no seconds in it.
pub fn markdown(arms: &[Arm]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let columns = columns(arms);
    let head = head(&columns);
    let table = format!("{}| --- | --- |{}\n", line(&head), " ---: |".repeat(head.len() - 2));
    arms.iter().fold(table, |table, arm| table + &line(&row(arm, &columns))) + &footnote(arms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(spread(&[0.5], true), "50.00");
        assert_eq!(spread(&[0.5, 0.6, 0.7], true), "60.00 ± 10.00");
        assert_eq!(spread(&[5.0, 6.0, 7.0], false), "6.0000 ± 1.0000");
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
