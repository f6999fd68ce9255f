//! What LibTorch has and tch does not expose, and kernels of our own, behind a safe face.

mod free;
mod memory;
mod ops;
mod peak;
mod place;
mod recompute;

pub use free::free_memory;
pub use ops::{
    Rates, Slot, adamw, add_norm, attention, cross_entropy, dropout, embedding, fold, linear, takes,
};
pub use peak::{max_memory_allocated, max_rss};
pub use place::{Compute, Dtype, Place};
pub use recompute::recomputed;
