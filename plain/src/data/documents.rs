//! Lines of text or JSON, and paragraphs.

use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value};

use super::read::{Name, Record};
use super::utf8::{Text, utf8};

/// Lines with their numbers, counted from 1, without line ends; each is there as soon as it is whole.
fn raw_lines<R: BufRead>(mut input: R) -> impl Iterator<Item = (u64, io::Result<Vec<u8>>)> {
    let mut number = 0;
    std::iter::from_fn(move || {
        number += 1;
        let mut bytes = Vec::new();
        match input.read_until(b'\n', &mut bytes) {
            Ok(0) => return None,
            Ok(_) => [b'\n', b'\r'].into_iter().for_each(|end| {
                bytes.pop_if(|last| *last == end);
            }),
            Err(error) => return Some((number, Err(error))),
        }
        Some((number, Ok(bytes)))
    })
}

/// The same as text. Errors say `name:LINE: cause`.
pub fn lines<R: BufRead>(name: String, input: R) -> impl Iterator<Item = Result<(u64, String)>> {
    raw_lines(input).map(move |(number, line)| {
        let text = line.map_err(Into::into).and_then(utf8);
        Ok((number, text.with_context(|| format!("{name}:{number}"))?))
    })
}

/// A document a line, in a column `text`.
pub fn text_lines<R: BufRead + Send>(
    name: Name,
    input: R,
    decode: Text,
) -> impl Iterator<Item = Result<Record>> + Send {
    raw_lines(input).map(move |(line, bytes)| {
        let bytes = bytes.with_context(|| format!("{name}:{line}"))?;
        Ok(Record {
            name: name.clone(),
            line,
            cells: decode(bytes).map(document),
            is_header: false,
        })
    })
}

/// A document a paragraph, blank lines between them; one holds its line ends but the last, each as LF. A line that
/// cannot be read makes its paragraph one that cannot.
pub fn paragraphs<R: BufRead + Send>(
    name: Name,
    input: R,
    decode: Text,
) -> impl Iterator<Item = Result<Record>> + Send {
    let mut lines = text_lines(name, input, decode);
    std::iter::from_fn(move || {
        let mut paragraph: Option<Record> = None;
        for line in lines.by_ref() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            match (line.is_blank(), &mut paragraph) {
                (true, Some(_)) => break,
                (true, None) => {}
                (false, None) => paragraph = Some(line),
                (false, Some(paragraph)) => paragraph.append(line),
            }
        }
        paragraph.map(Ok)
    })
}

impl Record {
    fn is_blank(&self) -> bool {
        self.text().is_some_and(|text| text.trim().is_empty())
    }

    fn text(&self) -> Option<&str> {
        self.cells.as_ref().ok()?.get("text")?.as_str()
    }

    /// Joins a further line to a paragraph; the first line that cannot be read stands for all.
    fn append(&mut self, mut line: Self) {
        let (Ok(cells), Ok(more)) = (&mut self.cells, &mut line.cells) else {
            if self.cells.is_ok() {
                *self = line;
            }
            return;
        };
        if let (Some(Value::String(text)), Some(Value::String(more))) =
            (cells.get_mut("text"), more.get("text"))
        {
            text.push('\n');
            text.push_str(more);
        }
    }
}

fn document(text: String) -> Map<String, Value> {
    Map::from_iter([("text".to_owned(), Value::String(text))])
}

/// An object a line; blank lines are no rows.
pub fn json_lines<R: Read + BufRead + Send>(
    name: Name,
    input: R,
    decode: Text,
) -> impl Iterator<Item = Result<Record>> + Send {
    let lines = raw_lines(input)
        .filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()));
    lines.map(move |(line, bytes)| {
        let bytes = bytes.with_context(|| format!("{name}:{line}"))?;
        let cells = decode(bytes).and_then(|text| {
            serde_json::from_str(&text)
                .map_err(|error| anyhow!("not a JSON object: {}", json_cause(&error)))
        });
        Ok(Record { name: name.clone(), line, cells, is_header: false })
    })
}

/// What serde_json says, its own place (always line 1) cut down to the column.
pub fn json_cause(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let cause = message.split(" at line ").next().unwrap_or_default();
    match error.column() {
        0 => cause.to_owned(),
        column => format!("{cause} at column {column}"),
    }
}
