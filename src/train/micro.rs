//! How many tokens go through the model at once: as given, or as many as fit.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::run::identity;
use super::state::State;
use crate::model::Sizes;
use crate::native::{self, Place};
use crate::nn::Parameters;

/// Tokens at once where nothing is said: more of them make no step faster.
const MOST: u64 = 8192;

/// A share of the memory that is free, for what a step keeps for the way back: the rest is for what this does not count.
const SHARE: f64 = 0.5;

/// Numbers that a layer keeps of a token, in parts of the hidden size: its input, query, key, value, what was attended to,
/// two sums, two outputs, and twice the inner layer's four.
const KEPT: f64 = 17.0;

/// Logits of a token and their gradient, where it is masked, and most are not.
const LOGITS: f64 = 0.15 * 3.0;

/// Bytes of a weight's gradient and its two moments.
const TRAINED: u64 = 12;

/// Tokens per forward pass; `auto` until it is settled, for all its clones.
#[derive(Debug, Clone)]
pub struct MicroTokens(Arc<OnceLock<u64>>);

impl MicroTokens {
    /// Of a flag.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(Arc::default()));
        }
        let tokens = crate::flags::count(text).map_err(|cause| format!("{cause}, or auto"))?;
        Ok(Self(Arc::new(tokens.into())))
    }

    pub fn get(&self) -> u64 {
        *self.0.get().unwrap_or(&MOST)
    }

    /// Finds what fits where it is `auto`, and says it in words. Where `dir` has the state of this very run, it goes on with
    /// what fitted when it was begun: its result must not depend on where it was interrupted.
    pub fn settle(
        &self,
        dir: &Path,
        (settings, inputs): (&Value, &Value),
        (sizes, place, parameters): (&Sizes, Place, &Parameters),
        recomputes: bool,
    ) -> Option<String> {
        if self.0.get().is_some() {
            return None;
        }
        let begun = State::begun(dir).filter(|(of, tokens)| {
            let mut settings = settings.clone();
            settings["run"]["batch"]["micro_tokens"] = json!(tokens);
            identity(&settings, inputs) == *of
        });
        let tokens = begun.map_or_else(
            || {
                let free = native::free_memory(place.device);
                let optimizer = parameters.count(true) as u64 * TRAINED;
                let held = held(sizes, recomputes) * place.kind.elt_size_in_bytes() as f64;
                free.map_or(MOST, |free| fitting(free.saturating_sub(optimizer), held, sizes))
            },
            |(_, tokens)| tokens,
        );
        Some(format!("--micro-tokens {}", self.0.get_or_init(|| tokens)))
    }
}

impl Serialize for MicroTokens {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.get() {
            Some(tokens) => tokens.serialize(to),
            None => "auto".serialize(to),
        }
    }
}

/// Numbers that are held of a token for the way back. Where layers are computed again, one is at a time.
fn held(sizes: &Sizes, recomputes: bool) -> f64 {
    let layers = sizes.layers as f64;
    let kept = if recomputes { layers - 1.0 + KEPT } else { layers * KEPT };
    kept * sizes.hidden as f64 + LOGITS * sizes.vocab as f64
}

/// Tokens whose way back, of so many bytes each, fits in so many; at least one sequence must.
fn fitting(bytes: u64, held: f64, sizes: &Sizes) -> u64 {
    let fit = bytes as f64 * SHARE / held;
    (fit as u64).clamp((sizes.max_length as u64).min(MOST), MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_memory_less_at_once() {
        let sizes = Sizes {
            hidden: 768,
            layers: 12,
            heads: 12,
            vocab: 50265,
            max_length: 512,
            eps: 1e-5,
            init_std: 0.02,
            segments: 1,
            tied: true,
        };
        let fit = |gigabytes: f64, recomputes| {
            fitting((gigabytes * 1e9) as u64, 4.0 * held(&sizes, recomputes), &sizes)
        };
        assert_eq!((fit(64.0, false), fit(0.1, false)), (MOST, 512));
        assert!(fit(1.5, true) > 3 * fit(1.5, false));
    }

    #[test]
    fn a_flag_is_a_number_or_auto() {
        let shown = |text: &str| serde_json::to_string(&MicroTokens::parse(text).unwrap()).unwrap();
        assert_eq!((shown("64"), shown("auto")), ("64".into(), "\"auto\"".into()));
        assert!(MicroTokens::parse("0").is_err() && MicroTokens::parse("many").is_err());
    }
}
