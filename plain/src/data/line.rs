//! Texts as programs read them line by line.

use std::io::{BufRead, Lines};
use std::iter::Enumerate;

use anyhow::{Context, Error, Result};
use serde::Deserialize;

/// A line of text, or of JSON with a text in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Line {
    pub text: String,
    pub pair: Option<String>,
}

/// The lines of a reader; `name` is what errors call it.
pub struct TextLines<R> {
    name: String,
    lines: Enumerate<Lines<R>>,
}

/// Reads a text a line; a line that begins with a brace is JSON with `text` and perhaps `pair`.
pub fn text_lines<R: BufRead>(name: &str, reader: R) -> TextLines<R> {
    TextLines { name: name.to_owned(), lines: reader.lines().enumerate() }
}

impl<R: BufRead> Iterator for TextLines<R> {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, line) = self.lines.next()?;
        let parsed = line.map_err(Error::from).and_then(|text| match text.starts_with('{') {
            true => Ok(serde_json::from_str(&text)?),
            false => Ok(Line { text, pair: None }),
        });
        Some(parsed.with_context(|| format!("{}: line {}", self.name, at + 1)))
    }
}
