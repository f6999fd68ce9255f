//! The table for spreadsheets: a line for each arm and score, and one for the times.

use anyhow::Result;
use csv::Writer;

use super::arm::{Arm, baseline, tasks};
use super::noise::difference;
use super::score::Score;
use super::spread::Spread;

const HEAD: [&str; 20] = [
    "task",
    "arm",
    "encoder",
    "method",
    "score",
    "n",
    "mean",
    "sd",
    "min",
    "max",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "inside_noise",
    "test",
    "trained",
    "degenerate",
    "no_test",
];

/// Shares are shares, not percent; what is not known is empty. `low` and `high` are the 95 % interval of the mean over
/// seeds, no further than a score can go, and so it is of differences; `degenerate` and `no_test` are the runs that are marked so.
pub fn csv(arms: &[Arm], asked: Option<&str>) -> Result<String> {
    let mut out = Writer::from_writer(Vec::new());
    out.write_record(HEAD)?;
    for task in tasks(arms) {
        let base = baseline(task, asked);
        for arm in task {
            for (score, values) in &arm.scores {
                out.write_record(line(arm, base, (score, values)))?;
            }
        }
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}

fn line(arm: &Arm, base: Option<&Arm>, (score, values): (&Score, &[f64])) -> Vec<String> {
    let (place, spread) = (&arm.place, Spread::of(values));
    let of = |value: fn(&Spread) -> f64| number(spread.as_ref().map(value));
    let ends = |interval: Option<(f64, f64)>, nearest: &dyn Fn(f64) -> f64| {
        [interval.map(|ends| ends.0), interval.map(|ends| ends.1)]
            .map(|end| number(end.map(nearest)))
    };
    let mut cells = [&place.task, &arm.name, &place.encoder, &place.method, score.key]
        .map(String::from)
        .to_vec();
    cells.push(spread.as_ref().map_or(0, |spread| spread.n).to_string());
    cells.push(of(|spread| spread.mean));
    cells.push(number(spread.and_then(|spread| spread.sd)));
    cells.extend([of(|spread| spread.min), of(|spread| spread.max)]);
    let interval = spread.and_then(|spread| spread.interval());
    cells.extend(ends(interval, &|end| score.within(end)));
    let found = base.and_then(|base| difference(arm, base, score));
    cells.push(number(found.map(|found| found.mean)));
    cells.extend(ends(found.and_then(|found| found.interval), &|end| score.apart(end)));
    cells
        .push(found.and_then(|found| found.is_noise).map_or_else(String::new, |is| is.to_string()));
    cells.push(found.map_or_else(String::new, |found| found.test.kind().into()));
    cells.push(arm.trained().to_string());
    cells.extend([arm.degenerate().count(), arm.leaks().count()].map(|runs| runs.to_string()));
    cells
}

/// To 6 digits, which no seed changes by chance of rounding.
fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}
