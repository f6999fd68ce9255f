//! Texts that nearly agree: MinHash (Broder 1997) over words and pairs of neighbouring words, looked up by bands
//! (Indyk and Motwani 1998; Leskovec et al., Mining of Massive Datasets, 3.4).

use std::collections::HashMap;
use std::iter;

/// Values in a sketch: the similarity read off two of them has a standard error of at most 0.045.
const VALUES: usize = 128;
/// A pair that is just similar enough is missed in at most this share of cases.
const MISSED: f64 = 0.02;
/// Sketches compared for each band they share, the last ones: many texts of one pattern must not cost their square.
const CROWD: usize = 256;

/// The smallest hash of any feature of a text, for each of `VALUES` hash functions; its low 16 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch([u16; VALUES]);

/// FNV-1a, 64 bits: the number a word is known by.
pub fn word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The words of a text: its runs of letters and digits, in lower case.
pub fn words(text: &str) -> Vec<u64> {
    let text = text.to_lowercase();
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
    runs.map(|run| word(run.as_bytes())).collect()
}

/// Spreads every bit of a number over all of it (Stafford's variant 13 of splitmix64).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Sketch {
    /// The sketch of a text with these words; none without words.
    pub fn of(words: &[u64]) -> Option<Self> {
        if words.is_empty() {
            return None;
        }
        let single = words.iter().map(|&word| mixed(word));
        let pairs = words.windows(2).map(|pair| mixed(pair[0].rotate_left(23) ^ mixed(pair[1])));
        let mut least = [u32::MAX; VALUES];
        let seeds: [u32; VALUES] = std::array::from_fn(|i| mixed(i as u64 + 1) as u32);
        for feature in single.chain(pairs) {
            let feature = feature as u32;
            for (least, seed) in least.iter_mut().zip(seeds) {
                // The finish of MurmurHash3, which is a bijection: no two features fall together.
                let mut x = feature ^ seed;
                x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
                x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
                *least = (*least).min(x ^ (x >> 16));
            }
        }
        Some(Self(least.map(|value| value as u16)))
    }

    /// About the share of the features of either text that both have, 0 to 1.
    pub fn similarity(&self, other: &Self) -> f64 {
        let same: u32 = self.0.iter().zip(&other.0).map(|(a, b)| u32::from(a == b)).sum();
        f64::from(same) / VALUES as f64
    }
}

/// Sketches to be found again by similar ones.
#[derive(Debug)]
pub struct Near {
    threshold: f64,
    /// Values in a band: two texts are compared where a whole band agrees.
    band: usize,
    sketches: Vec<Sketch>,
    names: Vec<u32>,
    /// For each band met, the last sketch that has it, and for each sketch and band the one before it.
    last: HashMap<u64, u32>,
    before: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Near {
    pub fn new(threshold: f64) -> Self {
        let missed = |band: usize| (1.0 - threshold.powi(band as i32)).powi((VALUES / band) as i32);
        let band = (2..=16).rev().find(|&band| missed(band) <= MISSED).unwrap_or(1);
        let (sketches, names, before) = (Vec::new(), Vec::new(), Vec::new());
        Self { threshold, band, sketches, names, last: HashMap::new(), before }
    }

    /// A key for each band, and one for the whole sketch, so that equal ones meet in any crowd.
    fn keys(&self, sketch: &Sketch) -> Vec<u64> {
        let bands = sketch.0.chunks_exact(self.band).chain([&sketch.0[..]]);
        let key = |(band, values): (usize, &[u16])| {
            values.iter().fold(band as u64 + 1, |key, &value| mixed(key ^ u64::from(value)))
        };
        bands.enumerate().map(key).collect()
    }

    pub fn insert(&mut self, sketch: Sketch, name: u32) {
        let at = self.sketches.len() as u32;
        for key in self.keys(&sketch) {
            self.before.push(self.last.insert(key, at).unwrap_or(NONE));
        }
        self.sketches.push(sketch);
        self.names.push(name);
    }

    /// The most similar sketch that is similar enough, of several the first: its name and the similarity.
    pub fn find(&self, sketch: &Sketch) -> Option<(u32, f64)> {
        let keys = self.keys(sketch);
        let mut found: Vec<u32> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let last = self.last.get(key).copied();
            let before = |at: &u32| self.before[*at as usize * keys.len() + i];
            let chain = iter::successors(last, |at| Some(before(at)).filter(|at| *at != NONE));
            found.extend(chain.take(CROWD));
        }
        found.sort_unstable();
        found.dedup();
        let similar = |&at: &u32| (at, self.sketches[at as usize].similarity(sketch));
        let close =
            found.iter().map(similar).filter(|(_, similarity)| *similarity >= self.threshold);
        let best = close.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(at, similarity)| (self.names[at as usize], similarity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::generator;
    use rand_chacha::rand_core::RngCore;
    use std::collections::HashSet;

    fn features(words: &[u64]) -> HashSet<(u64, u64)> {
        let pairs = words.windows(2).map(|pair| (pair[0], pair[1]));
        words.iter().map(|&word| (word, 0)).chain(pairs).collect()
    }

    fn texts(count: usize, length: usize, vocabulary: u64) -> Vec<Vec<u64>> {
        let mut rng = generator("texts", 7, 0);
        let mut word = || super::word(&(rng.next_u64() % vocabulary).to_le_bytes());
        (0..count).map(|_| (0..length).map(|_| word()).collect()).collect()
    }

    #[test]
    fn sketches_estimate_the_jaccard_similarity() {
        let texts = texts(60, 30, 40);
        let mut worst: f64 = 0.0;
        for pair in texts.windows(2) {
            let (a, b) = (features(&pair[0]), features(&pair[1]));
            let exact = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let sketch = |words: &[u64]| Sketch::of(words).unwrap();
            worst = worst.max((sketch(&pair[0]).similarity(&sketch(&pair[1])) - exact).abs());
        }
        assert!(worst < 0.15, "off by {worst}");
    }

    #[test]
    fn one_changed_word_is_found_and_other_texts_are_not() {
        let texts = texts(1000, 30, 5000);
        let mut near = Near::new(0.8);
        for (name, words) in texts.iter().enumerate() {
            let sketch = Sketch::of(words).unwrap();
            assert_eq!(near.find(&sketch), None);
            near.insert(sketch, name as u32);
        }
        let found = (0..texts.len()).filter(|&name| {
            let mut words = texts[name].clone();
            words[name % 30] = 1;
            let found = near.find(&Sketch::of(&words).unwrap());
            assert!(found.is_none_or(|(at, _)| at == name as u32));
            found.is_some()
        });
        assert!(found.count() > 970);
    }

    #[test]
    fn case_and_punctuation_make_no_difference() {
        assert_eq!(words("The cat -- sat."), words("the CAT sat"));
        assert_eq!(Sketch::of(&words(" … ")), None);
    }
}
