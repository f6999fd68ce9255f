//! The map: one line a room. Imports between rooms go one way; `tests/rooms.rs` holds the table.

/// The process: arguments and recipes, streams, exit codes, signals, progress.
pub mod cli;
/// Data sets in: catalog, readers, splits, the built-in sample.
pub mod data;
/// Kinds of numbers that flags take.
pub mod flags;
/// Plain numbers, no tensors: confusion, F1, MCC.
pub mod metrics;
/// Randomness named by what it is for, so that nothing needs a generator's state.
pub mod random;
/// Scores and logs to tables.
pub mod report;
/// The token shard: segments, reader, writer; masking.
pub mod shard;
/// Documents to ids; training a tokenizer.
pub mod text;

/// Hugging Face directories in and out; adapters; names audited.
#[cfg(feature = "torch")]
pub mod checkpoint;
/// One file an architecture; heads once, over `dyn Encoder`.
#[cfg(feature = "torch")]
pub mod model;
/// What LibTorch has and tch does not expose.
#[cfg(feature = "torch")]
pub mod native;
/// Layers with no opinion: Scope, Linear, LayerNorm, Embedding, attention over unpadded tokens.
#[cfg(feature = "torch")]
pub mod nn;
/// One file a method of fine-tuning.
#[cfg(feature = "torch")]
pub mod peft;
/// The loop, the optimizer, the schedule, batches, state and log.
#[cfg(feature = "torch")]
pub mod train;
