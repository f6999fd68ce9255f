//! The map: one line a room. Imports between rooms go one way; `tests/rooms.rs` holds the table.
#![cfg(feature = "torch")]

pub use plain::{
    baseline, cli, data, flags, hub, metrics, predictions, random, report, shard, tensorboard, text,
};

/// Hugging Face directories in and out; adapters; names audited.
pub mod checkpoint;
/// One file an architecture; heads once, over `dyn Encoder`.
pub mod model;
/// What LibTorch has and tch does not expose.
pub mod native;
/// Layers with no opinion: Scope, Linear, LayerNorm, Embedding, attention over unpadded tokens.
pub mod nn;
/// One file a method of fine-tuning.
pub mod peft;
/// What the two trainers share as programs.
pub mod program;
/// The loop, the optimizer, the schedule, batches, state and log.
pub mod train;
/// Texts to vectors, window by window.
pub mod vectors;
