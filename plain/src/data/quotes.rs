use std::io::{self, BufRead, Read};

/// The input of a CSV reader, which ends in an error where a quote is still open; the csv crate would make one cell
/// of all that follows that quote.
pub struct Quotes<R> {
    input: R,
    state: State,
    /// The line that is read, and the one the last quote opened on, both counted from 1.
    line: u64,
    opened: u64,
}

/// Where in a row a byte stands, as the csv crate sees it.
#[derive(Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Bare,
    Quoted,
    /// After a quote in a quoted cell: its end, or the first of two that stand for one.
    Quote,
}

/// A quote was open when the input ended.
#[derive(Debug, thiserror::Error)]
#[error("the quote that opens on line {line} is not closed")]
pub struct Unclosed {
    pub line: u64,
}

impl<R: BufRead> Quotes<R> {
    pub fn new(input: R) -> Self {
        Self { input, state: State::FieldStart, line: 1, opened: 0 }
    }

    fn see(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::FieldStart, b'"') => {
                self.opened = self.line;
                State::Quoted
            }
            (State::Quote, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) => State::Quoted,
            (_, b',' | b'\r' | b'\n') => State::FieldStart,
            _ => State::Bare,
        };
        self.line += u64::from(byte == b'\n');
    }
}

impl<R: BufRead> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        if len == 0 && self.state == State::Quoted && !buffer.is_empty() {
            let unclosed = Unclosed { line: self.opened };
            return Err(io::Error::new(io::ErrorKind::InvalidData, unclosed));
        }
        buffer[..len].iter().for_each(|byte| self.see(*byte));
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opened(text: &str) -> Option<u64> {
        let error = io::read_to_string(Quotes::new(text.as_bytes())).err()?;
        Some(error.downcast::<Unclosed>().unwrap().line)
    }

    #[test]
    fn the_line_of_the_open_quote_is_known() {
        assert_eq!(opened("a,b\n\"x\ny\",\"z\"\"\n\" \"\n1,\"\n\n"), Some(5));
        for closed in ["", "a\"b\n", "\"a\"\"b\"", "\"a\"x\"\n", "a,\"\",\"\n\"\r\n"] {
            assert_eq!(opened(closed), None, "{closed}");
        }
    }

    proptest! {
        /// A comma after an open quote belongs to its cell, after a closed one it begins another.
        #[test]
        fn the_csv_crate_agrees(text in "[a\",\r\n]{0,40}") {
            let cells = |text: &str| -> usize {
                let mut csv = csv::ReaderBuilder::new();
                let csv = csv.has_headers(false).flexible(true).from_reader(text.as_bytes());
                csv.into_byte_records().map(|record| record.unwrap().len()).sum()
            };
            let joined = cells(&format!("{text}x,y")) == cells(&format!("{text}xy"));
            prop_assert_eq!(opened(&text).is_some(), joined);
        }
    }
}
