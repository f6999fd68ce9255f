//! How long the texts are, where the shards are at hand.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::Task;
use super::markup::{Cell, Markup, details, figure, grid, table};
use super::plot::{Axes, Kind, Series, plot};
use crate::report::run::Run;
use crate::report::score::grouped;
use crate::shard::Shard;

/// Bars of a histogram at most.
const BARS: usize = 24;
/// Bytes of a shard that is read for this at most.
const LARGEST: u64 = 1 << 29;

/// A split's texts: how many have each length.
struct Lengths {
    split: &'static str,
    all: Vec<usize>,
    limit: usize,
}

pub fn show(task: &Task) -> Result<Markup> {
    let Some(run) = task.base.runs.first() else { return Ok(String::new()) };
    let config = &run.log.run["config"];
    let splits = [
        ("training", &config["train"]),
        ("validation", &config["eval"]),
        ("test", &run.score["shard"]),
    ];
    let found: Vec<Lengths> =
        splits.into_iter().filter_map(|(split, named)| lengths(run, split, named)).collect();
    let Some(longest) = found.iter().flat_map(|split| &split.all).max() else {
        return Ok(String::new());
    };
    let width = width(*longest);
    let pictures: Vec<Markup> =
        found.iter().map(|split| drawn(task, split, width, *longest)).collect::<Result<_>>()?;
    let titles =
        ["split", "sequences", "mean", "median", "95 of 100 have at most", "longest", "cut at"];
    let rows: Vec<Vec<Cell>> = found.iter().map(row).collect();
    let numbers = table(&format!("{}: tokens of a sequence", task.name()), &titles, &rows)?;
    Ok(grid(&pictures) + &details("Numbers", &numbers)?)
}

/// The shards that a run names, one or a list; nothing where one is not there or cannot be read.
fn lengths(run: &Run, split: &'static str, named: &Value) -> Option<Lengths> {
    let names = named.as_array().cloned().unwrap_or_else(|| vec![named.clone()]);
    let paths = names.iter().map(|name| run.find(Path::new(name.as_str()?)));
    let paths: Vec<PathBuf> = paths.collect::<Option<_>>()?;
    let small = |path: &PathBuf| {
        path.metadata().is_ok_and(|about| about.is_file() && about.len() <= LARGEST)
    };
    if paths.is_empty() || !paths.iter().all(small) {
        return None;
    }
    let shard = Shard::open(&paths).ok()?;
    let mut all: Vec<usize> = (0..shard.len()).map(|i| shard.view(i).tokens.len()).collect();
    all.sort_unstable();
    Some(Lengths { split, all, limit: shard.header().max_length as usize })
}

/// A round width of which few bars hold the longest.
fn width(longest: usize) -> usize {
    let least = longest.div_ceil(BARS).max(1);
    [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100]
        .into_iter()
        .find(|width| *width >= least)
        .unwrap_or(least)
}

fn drawn(task: &Task, split: &Lengths, width: usize, longest: usize) -> Result<Markup> {
    let bars = longest / width + 1;
    let mut counts = vec![0.0; bars];
    split.all.iter().for_each(|length| counts[length / width] += 1.0);
    let points =
        counts.iter().enumerate().map(|(bar, count)| ((bar * width) as f64, *count)).collect();
    let series = [Series { colour: 0, points, kind: Kind::Bars { width: width as f64 } }];
    let title = format!("{}: lengths of {}", task.name(), split.split);
    let most = counts.iter().copied().fold(1.0, f64::max);
    let (across, up) = (Some(0.0..(bars * width) as f64), Some(0.0..1.05 * most));
    let axes =
        Axes { title: &title, x: "tokens", y: "sequences", height: 200, across, up, names: &[] };
    figure(&title, "", &plot(&axes, &series)?, &[])
}

fn row(split: &Lengths) -> Vec<Cell> {
    let count = split.all.len();
    let at = |share: f64| split.all.get(((share * count as f64).ceil() as usize).max(1) - 1);
    let whole = |value: usize| Cell::number(grouped(value as u64), value as f64);
    let quantile = |share: f64| at(share).map_or_else(Cell::default, |length| whole(*length));
    let mean = split.all.iter().sum::<usize>() as f64 / count.max(1) as f64;
    vec![
        Cell::text(split.split),
        whole(count),
        Cell::number(format!("{mean:.1}"), mean),
        quantile(0.5),
        quantile(0.95),
        quantile(1.0),
        whole(split.limit),
    ]
}
