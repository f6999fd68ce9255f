//! Randomness without state: a generator is named by what it is for, so any part of a run can be drawn alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The generator for `purpose` at (`seed`, `epoch`); `set_stream` gives each sequence its own.
pub fn generator(purpose: &str, seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(purpose);
    hash.update(seed.to_le_bytes());
    hash.update(epoch.to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
