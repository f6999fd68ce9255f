use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

/// Bars that a histogram shows at most, besides the one for what is longer than almost all.
const BARS: usize = 20;
/// Characters of the longest bar.
const BAR: u64 = 40;
/// The quantiles that are told.
pub const QUANTILES: [(&str, f64); 6] =
    [("p5", 0.05), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p95", 0.95), ("p99", 0.99)];

/// How many texts have each length: exact quantiles, in memory that grows with the lengths that differ.
#[derive(Debug, Default)]
pub struct Lengths {
    counts: BTreeMap<usize, u64>,
    texts: u64,
    total: u64,
}

/// Texts by length: bar i counts lengths from i x width, `beyond` those after the last bar.
#[derive(Debug, PartialEq)]
pub struct Histogram {
    pub width: usize,
    pub counts: Vec<u64>,
    pub beyond: u64,
}

impl Lengths {
    pub fn add(&mut self, length: usize) {
        *self.counts.entry(length).or_default() += 1;
        self.texts += 1;
        self.total += length as u64;
    }

    /// The sum of all lengths.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn mean(&self) -> f64 {
        ratio(self.total, self.texts)
    }

    pub fn min(&self) -> usize {
        self.counts.keys().next().copied().unwrap_or(0)
    }

    pub fn max(&self) -> usize {
        self.counts.keys().next_back().copied().unwrap_or(0)
    }

    /// The smallest length that a share of at least `q` of the texts does not exceed; 0 where there is no text.
    pub fn quantile(&self, q: f64) -> usize {
        let rank = (q * self.texts as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |(length, count): (&usize, &u64)| {
            seen += count;
            (seen >= rank).then_some(*length)
        };
        self.counts.iter().find_map(reached).unwrap_or(0)
    }

    /// Texts longer than `most`, and by how much all of them are longer.
    pub fn over(&self, most: usize) -> (u64, u64) {
        let longer = self.counts.range(most + 1..);
        longer.fold((0, 0), |(texts, excess), (length, count)| {
            (texts + count, excess + count * (length - most) as u64)
        })
    }

    /// Bars of a round width that cover 99 % of the texts.
    pub fn histogram(&self) -> Histogram {
        let last = self.quantile(0.99);
        let width = round_above(last / BARS + 1);
        let mut counts = vec![0; last / width + 1];
        let mut beyond = 0;
        for (length, count) in &self.counts {
            *counts.get_mut(length / width).unwrap_or(&mut beyond) += count;
        }
        Histogram { width, counts, beyond }
    }

    pub fn to_json(&self) -> Value {
        let mut json = json!({"total": self.total, "mean": self.mean(), "min": self.min()});
        QUANTILES.iter().for_each(|(name, q)| json[*name] = json!(self.quantile(*q)));
        json["max"] = json!(self.max());
        let Histogram { width, counts, beyond } = self.histogram();
        json["histogram"] = json!({"width": width, "counts": counts, "beyond": beyond});
        json
    }

    /// The histogram as lines of text, under the name of what is counted.
    pub fn picture(&self, what: &str) -> String {
        let Histogram { width, counts, beyond } = self.histogram();
        let most = counts.iter().copied().chain([beyond]).max().unwrap_or(0);
        let mut lines = format!("{what:>15} {:>9}\n", "rows");
        let mut line = |name: String, count| {
            let line = format!("{name:>15} {count:>9} {}", bar(count, most));
            lines += line.trim_end();
            lines.push('\n');
        };
        for (i, &count) in counts.iter().enumerate() {
            let (from, to) = (i * width, (i + 1) * width - 1);
            line(if from == to { from.to_string() } else { format!("{from} to {to}") }, count);
        }
        if beyond > 0 {
            line(format!("{} or more", counts.len() * width), beyond);
        }
        lines
    }

    /// Mean, extremes and quantiles as cells of a table; `heading` has their names.
    pub fn row(&self, what: &str) -> String {
        let mut row = format!("{what:>15} {:>9.1} {:>7}", self.mean(), self.min());
        for (_, q) in QUANTILES {
            let _ = write!(row, " {:>7}", self.quantile(q));
        }
        let _ = writeln!(row, " {:>7}", self.max());
        row
    }

    pub fn heading() -> String {
        let names: String = QUANTILES.iter().map(|(name, _)| format!(" {name:>7}")).collect();
        format!("{:>15} {:>9} {:>7}{names} {:>7}\n", "length in", "mean", "min", "max")
    }
}

/// A bar for `count` where `most` has the longest; what occurs has at least one character.
pub fn bar(count: u64, most: u64) -> String {
    "#".repeat((count * BAR).div_ceil(most.max(1)) as usize)
}

/// `part / whole`; 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The first of 1, 2, 5, 10, 20, 50, … that is no smaller.
fn round_above(width: usize) -> usize {
    let mut ten = 1;
    loop {
        if let Some(round) = [1, 2, 5].map(|step| step * ten).into_iter().find(|r| *r >= width) {
            return round;
        }
        ten *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths(all: &[usize]) -> Lengths {
        let mut lengths = Lengths::default();
        all.iter().for_each(|&length| lengths.add(length));
        lengths
    }

    #[test]
    fn nothing_has_no_length() {
        let none = lengths(&[]);
        assert_eq!((none.mean(), none.quantile(0.5), none.over(0)), (0.0, 0, (0, 0)));
        assert_eq!(none.histogram(), Histogram { width: 1, counts: vec![0], beyond: 0 });
    }

    #[test]
    fn a_picture_shows_every_bar() {
        let mut all = vec![3; 99];
        all.extend([5, 900]);
        let picture = lengths(&all).picture("words");
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines[1], "              0         0");
        assert_eq!(lines[4], format!("              3        99 {}", "#".repeat(40)));
        assert_eq!(lines[6], "              5         1 #");
        assert_eq!(lines[7], "      6 or more         1 #");
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_list(mut all in prop::collection::vec(0..2000usize, 1..200), q in 0.01..0.99) {
            let lengths = lengths(&all);
            all.sort_unstable();
            let rank = f64::ceil(q * all.len() as f64) as usize;
            prop_assert_eq!(lengths.quantile(q), all[rank - 1]);
            let Histogram { width, counts, beyond } = lengths.histogram();
            prop_assert!(counts.len() <= BARS && width >= 1);
            prop_assert_eq!(counts.iter().sum::<u64>() + beyond, all.len() as u64);
            prop_assert!(beyond as usize * 100 <= all.len());
            let over = all.iter().filter(|l| **l > 700).map(|l| *l as u64 - 700);
            prop_assert_eq!(lengths.over(700), (over.clone().count() as u64, over.sum()));
        }
    }
}
