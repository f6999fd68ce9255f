//! Data sets in: the catalog, the readers, the splits, the built-in sample. No tensors here.

mod catalog;
mod columns;
mod input;
mod line;
mod quotes;
mod read;
mod remote;
mod sample;
mod select;
mod shelf;
mod split;

pub use catalog::{Entry, catalog, table};
pub use input::{Dataset, Examples, Input};
pub use line::{Line, text_lines};
pub use read::{Format, name_of};
pub use shelf::fetch;

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
