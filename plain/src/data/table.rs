//! CSV and TSV.

use std::io::Read;

use anyhow::{Context, Result, anyhow, ensure};
use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use serde_json::{Map, Value};

use super::bytes::Source;
use super::quotes::{Quotes, Unclosed};
use super::read::{Name, Record, Records};
use super::utf8::Text;
use crate::flags::fault;

/// Fields between commas, quoted with `"` where needed; a quote in them stands twice, a backslash for itself.
pub fn csv(name: Name, source: Source, header: bool, decode: Text) -> Result<Records> {
    let mut builder = ReaderBuilder::new();
    let input = Quotes::new(source.input);
    table(builder.has_headers(header), input, Table { name, crlf: source.crlf, decode })
}

/// Fields between tabs, nothing quoted.
pub fn tsv(name: Name, source: Source, header: bool, decode: Text) -> Result<Records> {
    let mut builder = ReaderBuilder::new();
    let builder = builder.has_headers(header).delimiter(b'\t').quoting(false);
    table(builder, source.input, Table { name, crlf: source.crlf, decode })
}

struct Table {
    name: Name,
    crlf: bool,
    decode: Text,
}

fn table<R: Read + Send + 'static>(
    builder: &ReaderBuilder,
    input: R,
    table: Table,
) -> Result<Records> {
    let mut reader = builder.from_reader(input);
    let (mut columns, mut header) = (Vec::new(), None);
    if reader.has_headers() {
        let first = reader.byte_headers().map_err(|error| table.fatal(error))?;
        columns = table.header(first).with_context(|| format!("{}:1", table.name))?;
        let empty = columns.iter().map(|column| (column.clone(), "".into())).collect();
        header =
            (!columns.is_empty()).then(|| Record { is_header: true, ..table.record(1, Ok(empty)) });
    }
    let rows = reader.into_byte_records().map(move |record| match record {
        Ok(record) => {
            if columns.is_empty() {
                columns = (0..record.len()).map(|i| i.to_string()).collect();
            }
            let line = table.line(record.position());
            Ok(table.record(line, table.cells(&columns, &record)))
        }
        Err(error) => match ragged(&error) {
            Some(cause) => Ok(table.record(table.line(error.position()), Err(cause))),
            None => Err(table.fatal(error)),
        },
    });
    Ok(Box::new(header.into_iter().map(Ok).chain(rows)))
}

impl Table {
    fn header(&self, record: &ByteRecord) -> Result<Vec<String>> {
        let columns: Result<Vec<String>> =
            record.iter().map(|cell| (self.decode)(cell.to_vec())).collect();
        let columns = columns?;
        for (i, column) in columns.iter().enumerate() {
            ensure!(!columns[..i].contains(column), "column `{column}` is there twice");
        }
        Ok(columns)
    }

    fn cells(&self, columns: &[String], record: &ByteRecord) -> Result<Map<String, Value>> {
        let cells = columns.iter().zip(record.iter());
        cells
            .map(|(column, cell)| {
                Ok((column.clone(), Value::String((self.decode)(cell.to_vec())?)))
            })
            .collect()
    }

    fn record(&self, line: u64, cells: Result<Map<String, Value>>) -> Record {
        Record { name: self.name.clone(), line, cells, is_header: false }
    }

    /// The csv crate ends a record at CR, and so has not yet counted the line when the next one starts at LF.
    fn line(&self, position: Option<&csv::Position>) -> u64 {
        position.map_or(0, |at| at.line() + u64::from(self.crlf && at.byte() > 0))
    }

    /// What leaves nothing to go on with.
    fn fatal(&self, error: csv::Error) -> anyhow::Error {
        let (name, line) = (&self.name, self.line(error.position()));
        match error.into_kind() {
            ErrorKind::Io(error) => match error.downcast::<Unclosed>() {
                Ok(Unclosed { line }) => fault(
                    format!("{name}:{line}: the quote that opens here is not closed"),
                    "a quote that is text stands twice in a quoted cell; --format tsv knows no quoting",
                ),
                Err(error) => anyhow::Error::from(error).context(name.to_string()),
            },
            other => anyhow!("{name}:{line}: {other:?}"),
        }
    }
}

fn ragged(error: &csv::Error) -> Option<anyhow::Error> {
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Some(anyhow!("the row has {len} fields, the first one {expected_len}"))
        }
        _ => None,
    }
}
