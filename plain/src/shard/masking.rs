//! Choosing tokens to predict and hiding them (BERT, Devlin et al. 2019, section 3.1), drawn anew each epoch
//! as in RoBERTa (Liu et al. 2019, section 4.1).
//!
//! What is masked is a pure function of (seed, epoch, number of the sequence): `mask` and `pretrain` give the
//! same bits, at any thread count and from any starting point.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::header::{Header, get, parse};
use super::segment::View;
use crate::{flags, random};

/// Which tokens to hide, and behind what.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub struct Masking {
    /// Share of the tokens to predict, special tokens aside
    #[arg(long, default_value_t = 0.15, value_parser = flags::share)]
    pub prob: f64,

    /// What a chosen token becomes: shares of the mask token, of a random token, of itself
    #[arg(long, value_name = "MASK,RANDOM,SAME", default_value_t = Replace([0.8, 0.1, 0.1]))]
    pub replace: Replace,

    /// What is chosen at once
    #[arg(long, value_enum, default_value_t = Unit::Token)]
    pub unit: Unit,
}

impl Default for Masking {
    fn default() -> Self {
        Self { prob: 0.15, replace: Replace([0.8, 0.1, 0.1]), unit: Unit::Token }
    }
}

/// What masking chooses at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Each token by itself
    Token,
}

/// Shares of [MASK], of a random token, of the token itself; they add to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Replace(pub [f64; 3]);

impl fmt::Display for Replace {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [mask, random, same] = self.0;
        write!(f, "{mask},{random},{same}")
    }
}

impl FromStr for Replace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let shares = parts.ok().and_then(|p| <[f64; 3]>::try_from(p).ok());
        let shares = shares.ok_or("three shares are wanted, as in 0.8,0.1,0.1")?;
        let fits = shares.iter().all(|s| (0.0..=1.0).contains(s));
        if !fits || (shares.iter().sum::<f64>() - 1.0).abs() > 1e-6 {
            return Err("the three shares must lie in 0 to 1 and add to 1".into());
        }
        Ok(Self(shares))
    }
}

/// How and when a shard was masked: what its metadata says.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedBy {
    pub masking: Masking,
    pub seed: u64,
    pub epoch: u64,
    /// Epochs in the whole stream; 0 = without end.
    pub epochs: u64,
}

impl MaskedBy {
    pub(super) fn write(&self, map: &mut BTreeMap<String, String>) {
        let unit = self.masking.unit.to_possible_value();
        let unit = unit.map(|unit| unit.get_name().to_owned()).unwrap_or_default();
        map.insert("prob".into(), self.masking.prob.to_string());
        map.insert("replace".into(), self.masking.replace.to_string());
        map.insert("unit".into(), unit);
        map.insert("seed".into(), self.seed.to_string());
        map.insert("epoch".into(), self.epoch.to_string());
        map.insert("epochs".into(), self.epochs.to_string());
    }

    pub(super) fn read(map: &HashMap<String, String>) -> Result<Self> {
        let unit = get(map, "unit")?;
        let unit =
            Unit::from_str(unit, false).map_err(|e| anyhow::anyhow!("metadata `unit`: {e}"))?;
        let masking = Masking { prob: parse(map, "prob")?, replace: parse(map, "replace")?, unit };
        let (seed, epoch, epochs) =
            (parse(map, "seed")?, parse(map, "epoch")?, parse(map, "epochs")?);
        Ok(Self { masking, seed, epoch, epochs })
    }
}

/// One sequence with tokens hidden. Positions count from its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MaskedSequence {
    pub tokens: Vec<u32>,
    pub masked: Vec<u32>,
    pub targets: Vec<u32>,
}

/// Masks the sequences of one epoch, in any order.
#[derive(Debug, Clone)]
pub struct Masker {
    by: MaskedBy,
    rng: ChaCha8Rng,
    mask: u32,
    vocab_size: u32,
    /// In order.
    special: Vec<u32>,
}

impl Masker {
    /// Fails if the tokenizer has no mask token.
    pub fn new(by: &MaskedBy, header: &Header) -> Result<Self> {
        let mask = header.special.mask.context("its tokenizer has no mask token")?;
        ensure!(header.vocab_size > 0, "its vocabulary is empty");
        let mut special = header.special.all.clone();
        special.sort_unstable();
        let rng = random::generator("mask", by.seed, by.epoch);
        let by = by.clone();
        Ok(Self { by, rng, mask, vocab_size: header.vocab_size, special })
    }

    /// What the metadata of a masked segment says.
    pub fn by(&self) -> &MaskedBy {
        &self.by
    }

    /// Masks `view`, sequence number `sequence` of its epoch.
    pub fn mask(&self, view: &View, sequence: u64) -> MaskedSequence {
        let mut rng = self.rng.clone();
        rng.set_stream(sequence);
        let mut out = MaskedSequence { tokens: view.tokens.iter().collect(), ..Default::default() };
        for (at, token) in out.tokens.iter_mut().enumerate() {
            if self.special.binary_search(token).is_err()
                && rng.random::<f64>() < self.by.masking.prob
            {
                out.masked.push(at as u32);
                out.targets.push(*token);
                *token = self.hide(*token, &mut rng);
            }
        }
        out
    }

    fn hide(&self, token: u32, rng: &mut ChaCha8Rng) -> u32 {
        let [mask, random, _] = self.by.masking.replace.0;
        let draw: f64 = rng.random();
        if draw < mask {
            self.mask
        } else if draw < mask + random {
            rng.random_range(0..self.vocab_size)
        } else {
            token
        }
    }
}
