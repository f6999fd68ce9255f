//! The token shard: segments back to back, each one a complete safetensors blob. See `docs/formats.md`.

mod columns;
mod header;
mod ints;
mod layout;
mod manifest;
pub mod masking;
mod open;
mod outline;
mod problem;
mod segment;
mod statistics;
mod stream;
mod tensors;
#[cfg(test)]
pub mod tests;
mod write;

pub use header::{Header, Special};
pub use ints::Ints;
pub use layout::Layout;
pub use manifest::{Manifest, Stage};
pub use masking::{MaskedBy, MaskedSequence, Masker, Masking, Unit};
pub use open::{Labels, Shard, agree};
pub use outline::Outline;
pub use problem::{Problem, in_digits};
pub use segment::{Segment, View};
pub use statistics::Statistics;
pub use stream::{Input, Segments, segments, shard_or_text};
pub use write::{Sequence, Writer, write_masked};
