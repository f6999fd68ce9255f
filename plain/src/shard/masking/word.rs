//! Words of a sequence, and as many of them as a budget of tokens holds.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::segment::View;

/// The words of a sequence, in order, as ranges of its tokens. A special token belongs to none and ends one.
pub fn words(view: &View, tokens: &[u32], is_special: impl Fn(u32) -> bool) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for (at, &token) in tokens.iter().enumerate() {
        if is_special(token) {
            continue;
        }
        match words.last_mut() {
            Some(word) if word.end == at && !view.begins_word(at) => word.end = at + 1,
            _ => words.push(at..at + 1),
        }
    }
    words
}

/// Each token that may be masked as a unit of its own.
pub fn tokens(tokens: &[u32], is_special: impl Fn(u32) -> bool) -> Vec<Range<usize>> {
    let maskable = tokens.iter().enumerate().filter(|&(_, &token)| !is_special(token));
    maskable.map(|(at, _)| at..at + 1).collect()
}

/// Units in random order as long as they fit into `budget` tokens; one that does not is passed over, as in BERT's
/// `create_pretraining_data.py`. Of units of one token each these are exactly `budget`.
pub fn within(
    mut units: Vec<Range<usize>>,
    budget: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Range<usize>> {
    units.shuffle(rng);
    let mut left = budget;
    units.retain(|unit| {
        let fits = unit.len() <= left;
        left -= if fits { unit.len() } else { 0 };
        fits
    });
    units.sort_unstable_by_key(|unit| unit.start);
    units
}
