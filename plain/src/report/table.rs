//! The table, for the eye and for Markdown.

use super::Arm;

/// Mean and sample standard deviation in percent; of one run the value alone.
fn spread(values: &[f64]) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return format!("{:.2}", 100.0 * mean);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * variance.sqrt())
}

/// 1234567 as 1,234,567.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let lead = digits.len() % 3;
    let groups = digits.as_bytes()[lead..].chunks(3).map(String::from_utf8_lossy);
    let head = (lead > 0).then(|| digits[..lead].into());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

fn row(arm: &Arm) -> Vec<String> {
    vec![
        arm.task.clone(),
        arm.name.clone(),
        arm.accuracy.len().to_string(),
        spread(&arm.accuracy),
        spread(&arm.macro_f1),
        grouped(arm.trained),
    ]
}

const HEAD: [&str; 6] = ["task", "arm", "seeds", "accuracy", "macro-F1", "trained"];

/// A table for the terminal, with the seconds of training.
pub fn text(arms: &[Arm]) -> String {
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    rows.extend(arms.iter().map(row));
    rows[0].push("seconds".into());
    for (row, arm) in rows[1..].iter_mut().zip(arms) {
        row.push(format!("{:.0}", arm.seconds));
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=HEAD.len()).map(width).collect();
    let pad = |(column, cell): (usize, &String)| match column {
        0 | 1 => format!("{cell:<0$}", widths[column]),
        _ => format!("{cell:>0$}", widths[column]),
    };
    let line =
        |row: &Vec<String>| row.iter().enumerate().map(pad).collect::<Vec<_>>().join("  ") + "\n";
    rows.iter().map(line).collect()
}

/// A Markdown table of what a rerun gives again: no seconds in it.
pub fn markdown(arms: &[Arm]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&HEAD.map(String::from));
    table += "| --- | --- | ---: | ---: | ---: | ---: |\n";
    arms.iter().fold(table, |table, arm| table + &line(&row(arm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(spread(&[0.5]), "50.00");
        assert_eq!(spread(&[0.5, 0.6, 0.7]), "60.00 ± 10.00");
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
