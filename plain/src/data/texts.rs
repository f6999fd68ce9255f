//! What counts as the same text.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Example;

/// Lower case, every run of white space one space, none at either end.
pub fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.to_lowercase().split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The first 8 bytes, as a little-endian number, of sha256 of the normalised text.
pub fn hash(text: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(normalise(text)).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// `hash` of each text and, of a pair, of the second text; on all threads.
pub fn hashes(texts: &[(&str, Option<&str>)]) -> Vec<(u64, Option<u64>)> {
    texts.par_iter().map(|(text, pair)| (hash(text), pair.map(hash))).collect()
}

impl Example {
    /// `hash` of its text and, of a pair, of the second text.
    pub fn hashes(&self) -> (u64, Option<u64>) {
        (hash(&self.text), self.pair.as_deref().map(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `int.from_bytes(hashlib.sha256(b"the cat").digest()[:8], "little")` in Python.
    #[test]
    fn hashes_are_what_the_format_says() {
        assert_eq!(hash(" The\u{a0}\n CAT "), hash("the cat"));
        assert_eq!(hash("the cat"), 11181937505795351664);
        assert_ne!(hash("the cat."), hash("the cat"));
    }

    proptest! {
        #[test]
        fn normalised_text_stays_as_it_is(text: String) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
