//! TF-IDF weights of token ids: counts times ln((1 + N) / (1 + df)) + 1. N texts of the corpus are counted, df of them have
//! the token. (The smoothed weights of scikit-learn's TfidfTransformer.)

use std::collections::HashSet;
use std::ops::Range;

use crate::shard::Shard;

/// Tokens of a text, in one or several sequences.
fn tokens(shard: &Shard, text: Range<usize>) -> impl Iterator<Item = u32> {
    text.flat_map(|i| shard.view(i).tokens.iter())
}

/// `[vocab]`: ln((1 + N) / (1 + df)) + 1 of the tokens of the texts, each in those sequences of the corpus; 0 for special
/// tokens and for those that no text has.
pub fn idf(corpus: &Shard, texts: impl Iterator<Item = Range<usize>>) -> Vec<f32> {
    let header = corpus.header();
    let mut df = vec![0u32; header.vocab_size as usize];
    // The text that last had the token: each counts it once.
    let mut last = vec![0; df.len()];
    let mut count = 0;
    for text in texts {
        count += 1;
        for token in tokens(corpus, text).map(|token| token as usize) {
            df[token] += u32::from(last[token] != count);
            last[token] = count;
        }
    }
    let special: HashSet<u32> = header.special.all.iter().copied().collect();
    let texts = f64::from(count);
    let idf = |(token, df): (u32, u32)| match df > 0 && !special.contains(&token) {
        true => (((1.0 + texts) / (1.0 + f64::from(df))).ln() + 1.0) as f32,
        false => 0.0,
    };
    (0..).zip(df).map(idf).collect()
}

/// The tokens of a text in order of their ids, with count times idf, and the length of that vector. Tokens without a weight
/// are left out.
pub fn weights(shard: &Shard, text: Range<usize>, idf: &[f32]) -> (Vec<(u32, f32)>, f32) {
    let mut tokens: Vec<u32> =
        tokens(shard, text).filter(|&token| idf[token as usize] > 0.0).collect();
    tokens.sort_unstable();
    let weight = |same: &[u32]| (same[0], same.len() as f32 * idf[same[0] as usize]);
    let weights: Vec<(u32, f32)> = tokens.chunk_by(|a, b| a == b).map(weight).collect();
    let norm = weights.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
    (weights, norm)
}
