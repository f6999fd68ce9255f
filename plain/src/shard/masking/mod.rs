//! Choosing tokens to predict and hiding them (BERT, Devlin et al. 2019, section 3.1), drawn anew each epoch
//! as in RoBERTa (Liu et al. 2019, section 4.1).
//!
//! What is masked is a pure function of (seed, epoch, draw, number of the sequence): `mask` and `pretrain` give the
//! same bits, at any thread count and from any starting point.

mod by;
mod span;
pub(super) mod word;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::header::Header;
use super::segment::View;
use crate::{flags, random};
pub use by::MaskedBy;
use span::Budget;

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

    /// Choose so many tokens of each sequence, --prob of them but at least 1, instead of each unit by chance
    #[arg(long)]
    pub exact: bool,
}

impl Default for Masking {
    fn default() -> Self {
        Self { prob: 0.15, replace: Replace([0.8, 0.1, 0.1]), unit: Unit::Token, exact: false }
    }
}

impl Masking {
    /// Tokens to hide of so many that may be: at least one, as in BERT's `create_pretraining_data.py`.
    fn exactly(&self, maskable: usize) -> usize {
        let least = usize::from(self.prob > 0.0 && maskable > 0);
        ((self.prob * maskable as f64).round() as usize).max(least)
    }
}

/// What masking chooses at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Each token by itself
    Token,
    /// All tokens of a word, each replaced by itself
    Word,
    /// Spans of 1 to 10 words (SpanBERT), until --prob of the tokens are hidden; a span is replaced as one
    Span,
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
        let rng = random::generator(&purpose(by.draw), by.seed, by.epoch);
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
        let Masking { prob, unit, exact, .. } = self.by.masking;
        let units = self.units(view, &out.tokens);
        match (unit, exact) {
            (Unit::Span, _) => {
                let spans = span::spans(&units, self.budget(&units, &mut rng), &mut rng);
                spans.into_iter().for_each(|span| self.hide_as_one(span, &mut out, &mut rng));
            }
            (_, true) => {
                let budget = self.by.masking.exactly(units.iter().map(Range::len).sum());
                let chosen = word::within(units, budget, &mut rng);
                chosen.into_iter().for_each(|unit| self.hide_each(unit, &mut out, &mut rng));
            }
            (_, false) => {
                for unit in units {
                    if rng.random::<f64>() < prob {
                        self.hide_each(unit, &mut out, &mut rng);
                    }
                }
            }
        }
        out
    }

    fn units(&self, view: &View, tokens: &[u32]) -> Vec<Range<usize>> {
        let is_special = |token| self.special.binary_search(&token).is_ok();
        match self.by.masking.unit {
            Unit::Token => word::tokens(tokens, is_special),
            Unit::Word | Unit::Span => word::words(view, tokens, is_special),
        }
    }

    /// What spans may hide: --prob of the tokens, rounded up or down by chance where the count need not be exact.
    fn budget(&self, units: &[Range<usize>], rng: &mut ChaCha8Rng) -> Budget {
        let maskable = units.iter().map(Range::len).sum();
        let Masking { prob, exact, .. } = self.by.masking;
        match exact {
            true => Budget::new(self.by.masking.exactly(maskable), true),
            false => Budget::new((prob * maskable as f64 + rng.random::<f64>()) as usize, false),
        }
    }

    fn hide_each(&self, unit: Range<usize>, out: &mut MaskedSequence, rng: &mut ChaCha8Rng) {
        for at in unit {
            let fate = self.fate(rng);
            self.hide(at, fate, out, rng);
        }
    }

    fn hide_as_one(&self, span: Range<usize>, out: &mut MaskedSequence, rng: &mut ChaCha8Rng) {
        let fate = self.fate(rng);
        span.for_each(|at| self.hide(at, fate, out, rng));
    }

    fn fate(&self, rng: &mut ChaCha8Rng) -> Fate {
        let [mask, random, _] = self.by.masking.replace.0;
        let draw: f64 = rng.random();
        if draw < mask {
            Fate::Mask
        } else if draw < mask + random {
            Fate::Random
        } else {
            Fate::Same
        }
    }

    fn hide(&self, at: usize, fate: Fate, out: &mut MaskedSequence, rng: &mut ChaCha8Rng) {
        let token = &mut out.tokens[at];
        out.masked.push(at as u32);
        out.targets.push(*token);
        match fate {
            Fate::Mask => *token = self.mask,
            Fate::Random => *token = rng.random_range(0..self.vocab_size),
            Fate::Same => {}
        }
    }
}

/// What becomes of a chosen token.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Mask,
    Random,
    Same,
}

/// What a draw's generator is for; the first is the one there is without further draws.
fn purpose(draw: u64) -> String {
    if draw == 0 { "mask".into() } else { format!("mask, draw {draw}") }
}
