//! How a shard was masked, as its metadata says it.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use anyhow::{Result, anyhow, ensure};
use clap::ValueEnum;

use super::super::header::{get, parse};
use super::{Masking, Unit};

/// How and when a shard was masked: what its metadata says.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedBy {
    pub masking: Masking,
    pub seed: u64,
    pub epoch: u64,
    /// Epochs in the whole stream; 0 = without end.
    pub epochs: u64,
    /// Which of the epoch's draws, from 0.
    pub draw: u64,
    /// Draws of every sequence in an epoch.
    pub draws: u64,
}

impl MaskedBy {
    pub(in super::super) fn write(&self, map: &mut BTreeMap<String, String>) {
        let Masking { prob, replace, unit, exact } = &self.masking;
        let unit = unit.to_possible_value().map(|unit| unit.get_name().to_owned());
        let entries = [
            ("prob", prob.to_string()),
            ("replace", replace.to_string()),
            ("unit", unit.unwrap_or_default()),
            ("exact", exact.to_string()),
            ("seed", self.seed.to_string()),
            ("epoch", self.epoch.to_string()),
            ("epochs", self.epochs.to_string()),
            ("draw", self.draw.to_string()),
            ("draws", self.draws.to_string()),
        ];
        map.extend(entries.map(|(key, value)| (key.to_owned(), value)));
    }

    pub(in super::super) fn read(map: &HashMap<String, String>) -> Result<Self> {
        let unit = get(map, "unit")?;
        let unit = Unit::from_str(unit, false).map_err(|e| anyhow!("metadata `unit`: {e}"))?;
        let exact = or(map, "exact", false)?;
        let prob: f64 = parse(map, "prob")?;
        ensure!((0.0..=1.0).contains(&prob), "metadata `prob`: {prob} does not lie in 0 to 1");
        let masking = Masking { prob, replace: parse(map, "replace")?, unit, exact };
        let (seed, epoch) = (parse(map, "seed")?, parse(map, "epoch")?);
        let (epochs, draw, draws) =
            (parse(map, "epochs")?, or(map, "draw", 0)?, or(map, "draws", 1)?);
        Ok(Self { masking, seed, epoch, epochs, draw, draws })
    }
}

/// A key that the first shards of this version do not have.
fn or<T: FromStr>(map: &HashMap<String, String>, key: &str, before: T) -> Result<T> {
    if map.contains_key(key) { parse(map, key) } else { Ok(before) }
}
