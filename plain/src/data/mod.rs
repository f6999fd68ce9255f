//! Data sets in: the catalog, the readers, the splits, the built-in sample. No tensors here.

mod ahead;
mod arriving;
mod batches;
mod bytes;
mod catalog;
mod columns;
mod dedup;
mod documents;
mod files;
mod input;
mod labels;
mod line;
mod near;
mod parquet;
mod plan;
mod quotes;
mod read;
mod remote;
mod sample;
mod select;
mod shelf;
mod skipped;
mod split;
mod table;
mod texts;
mod utf8;

pub use ahead::Ahead;
pub use arriving::Arriving;
pub use batches::{in_batches, read as read_batch};
pub use catalog::{Entry, catalog, listing};
pub use dedup::{Found, Print, Seen};
pub use input::{Dataset, Examples, Input};
pub use labels::LabelKind;
pub use line::{Line, text_lines};
pub use near::{Sketch, word};
pub use read::{Format, Reading, is_whole, name_of, open as records};
pub use shelf::{fetch, files_named};
pub use split::choose;
pub use texts::hashes;

/// One document of a data set, as read: what `prep` turns into a token sequence.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Example {
    pub text: String,
    /// The second text of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// The class, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Row number in the source, counted from 0 before any split, limit or shuffle.
    pub row: u64,
}

impl Example {
    /// Bytes of text.
    fn bytes(&self) -> usize {
        self.text.len() + self.pair.as_deref().map_or(0, str::len)
    }
}
