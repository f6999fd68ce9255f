//! Texts as programs read them line by line.

use std::io::BufRead;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use super::documents::{json_cause, lines};

/// A line of text, or of JSON with a text in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Line {
    /// Of the line, from 1.
    #[serde(skip)]
    pub number: u64,
    pub text: String,
    pub pair: Option<String>,
}

/// Reads a text a line; a line that begins with a brace is JSON with `text` and perhaps `pair`. A line is there as soon
/// as it is whole. Errors say `name:LINE: cause`.
pub fn text_lines<R: BufRead>(
    name: &str,
    reader: R,
) -> impl Iterator<Item = Result<Line>> + use<R> {
    let name = name.to_owned();
    lines(name.clone(), reader).map(move |line| {
        let (number, text) = line?;
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) if number == 1 => rest.to_owned(),
            _ => text,
        };
        if !text.starts_with('{') {
            return Ok(Line { number, text, pair: None });
        }
        let line: Result<Line, _> = serde_json::from_str(&text);
        line.map(|line| Line { number, ..line })
            .map_err(|error| anyhow!(json_cause(&error)))
            .with_context(|| format!("{name}:{number}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Write};

    fn read(bytes: &[u8]) -> Result<Vec<Line>> {
        text_lines("f", bytes).collect()
    }

    #[test]
    fn lines_are_text_or_json() {
        let lines = read(b"\xef\xbb\xbfone\r\n\n{\"text\":\"a\",\"pair\":\"b\"}").unwrap();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts, lines[2].pair.as_deref()), (vec!["one", "", "a"], Some("b")));
        assert_eq!([0, 1, 2].map(|at| lines[at].number), [1, 2, 3]);
        let cause = |bytes| format!("{:#}", read(bytes).unwrap_err());
        assert_eq!(cause(b"a\n{\"pair\":\"b\"}\n"), "f:2: missing field `text` at column 12");
        assert_eq!(cause(b"a\n\xff\n"), "f:2: not UTF-8: byte 1 is 0xff");
    }

    #[test]
    fn a_line_is_there_before_the_next_is_written() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut lines = text_lines("f", BufReader::new(reader));
        for text in ["one", "two"] {
            writeln!(writer, "{text}").unwrap();
            assert_eq!(lines.next().unwrap().unwrap().text, text);
        }
    }
}
