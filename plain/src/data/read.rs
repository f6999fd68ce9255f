//! Bytes to records: CSV, TSV, JSON lines or plain text, gzipped or not, from a file or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::quotes::{Quotes, Unclosed};
use crate::flags::fault;

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma separated, fields quoted with `"` where needed, quotes in them doubled
    Csv,
    /// Tab separated, no quoting
    Tsv,
    /// One JSON object a line
    Jsonl,
    /// One document a line, in a column called `text`
    Text,
}

/// A row as column names and values, with the line of the file it starts on, counted from 1.
pub type Record = (u64, Map<String, Value>);
pub type Records = Box<dyn Iterator<Item = Result<Record>> + Send>;
type Bytes = Box<dyn Read + Send>;

/// Bytes looked at to tell what a stream holds.
const HEAD: u64 = 4096;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Format {
    /// The format a file name tells, `.gz` left aside.
    pub fn of(path: &Path) -> Option<Self> {
        match ending(path)?.as_str() {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "txt" | "text" => Some(Self::Text),
            _ => None,
        }
    }
}

/// The ending of a file's name in lower case, `.gz` left aside.
fn ending(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.').map(|(_, ending)| ending.to_owned())
}

/// How messages call `path`.
pub fn name_of(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether the name says a format that would pass for text but is none.
fn is_foreign(path: &Path) -> bool {
    let foreign =
        ["json", "parquet", "arrow", "zst", "zip", "xz", "bz2", "tar", "tgz", "xlsx", "pkl"];
    ending(path).is_some_and(|ending| foreign.contains(&ending.as_str()))
}

/// The decompressed bytes of a file without a byte order mark, and what their beginning tells.
struct Source {
    name: String,
    input: BufReader<Bytes>,
    /// Whether the first byte that is not white space is `{`.
    braced: bool,
    /// Whether the first line ends in CR LF.
    crlf: bool,
}

/// Opens `path`, `-` being standard input. Every error names the file and, from the first row on, the line.
/// Without a format the name decides, then the first byte: `{` begins JSON lines, anything else is text.
pub fn records(path: &Path, format: Option<Format>, header: bool) -> Result<Records> {
    let name = name_of(path);
    if format.is_none() && is_foreign(path) {
        return Err(fault(
            format!("{name}: files of this kind are not read"),
            "CSV, TSV, JSON lines and text are, each also gzipped; --format says which, whatever the name",
        ));
    }
    let source = Source::open(path, name.clone()).context(name)?;
    let sniffed = if source.braced { Format::Jsonl } else { Format::Text };
    let mut csv = ReaderBuilder::new();
    csv.has_headers(header);
    Ok(match format.or_else(|| Format::of(path)).unwrap_or(sniffed) {
        Format::Csv => Box::new(table(source, &csv, Quotes::new)?),
        Format::Tsv => Box::new(table(source, csv.delimiter(b'\t').quoting(false), |input| input)?),
        Format::Jsonl => Box::new(json_lines(source.name, source.input)),
        Format::Text => Box::new(text_lines(source.name, source.input)),
    })
}

impl Source {
    fn open(path: &Path, name: String) -> io::Result<Self> {
        let raw: Bytes =
            if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let (head, raw) = peek(raw)?;
        let zipped = head.starts_with(&GZIP);
        let raw: Bytes = Box::new(Cursor::new(head).chain(raw));
        let plain: Bytes =
            if zipped { Box::new(MultiGzDecoder::new(BufReader::new(raw))) } else { raw };
        let (mut head, plain) = peek(plain)?;
        if head.starts_with(&BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        let braced = head.trim_ascii_start().starts_with(b"{");
        let crlf = head.split(|byte| *byte == b'\n').next().is_some_and(|l| l.ends_with(b"\r"));
        let input = Box::new(Cursor::new(head).chain(plain));
        Ok(Self { name, input: BufReader::with_capacity(1 << 18, input), braced, crlf })
    }
}

/// Takes the first few bytes off a stream.
fn peek(mut input: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head)?;
    Ok((head, input))
}

fn text_lines(
    name: String,
    input: BufReader<Bytes>,
) -> impl Iterator<Item = Result<Record>> + Send {
    lines(name, input).map(|line| {
        let (number, text) = line?;
        Ok((number, Map::from_iter([("text".to_owned(), Value::String(text))])))
    })
}

fn json_lines(
    name: String,
    input: BufReader<Bytes>,
) -> impl Iterator<Item = Result<Record>> + Send {
    let not_blank =
        |line: &Result<(u64, String)>| !matches!(line, Ok((_, l)) if l.trim().is_empty());
    lines(name.clone(), input).filter(not_blank).map(move |line| {
        let (number, line) = line?;
        let record = serde_json::from_str(&line).map_err(|error| {
            anyhow!("{name}:{number}: not a JSON object: {}", json_cause(&error))
        })?;
        Ok((number, record))
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

/// Lines with their numbers, counted from 1, without line ends; each is there as soon as it is whole.
pub fn lines<R: BufRead>(
    name: String,
    mut input: R,
) -> impl Iterator<Item = Result<(u64, String)>> + use<R> {
    let mut number = 0;
    std::iter::from_fn(move || {
        number += 1;
        let mut bytes = Vec::new();
        match input.read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => Some(line(bytes).map(|line| (number, line))),
            Err(error) => Some(Err(error.into())),
        }
        .map(|line| line.with_context(|| format!("{name}:{number}")))
    })
}

fn line(mut bytes: Vec<u8>) -> Result<String> {
    for end in [b'\n', b'\r'] {
        bytes.pop_if(|last| *last == end);
    }
    match bytes.iter().position(|byte| *byte == 0) {
        None => utf8(bytes),
        Some(at) => Err(fault(
            format!("not text: byte {} is 0", at + 1),
            "text is read as UTF-8; another encoding must be converted, as with iconv",
        )),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("not UTF-8: byte {} is 0x{:02x}", at + 1, error.as_bytes()[at])
    })
}

fn table<R: Read + Send>(
    source: Source,
    builder: &ReaderBuilder,
    watched: fn(BufReader<Bytes>) -> R,
) -> Result<impl Iterator<Item = Result<Record>> + Send + use<R>> {
    let Source { name, input, crlf, .. } = source;
    let mut reader = builder.from_reader(watched(input));
    let mut columns = Vec::new();
    if reader.has_headers() {
        let first = reader.byte_headers().map_err(|error| table_cause(&name, error, crlf))?;
        columns = header(first).with_context(|| format!("{name}:1"))?;
    }
    Ok(reader.into_byte_records().map(move |record| {
        let record = record.map_err(|error| table_cause(&name, error, crlf))?;
        let line = line_of(record.position(), crlf);
        if columns.is_empty() {
            columns = (0..record.len()).map(|i| i.to_string()).collect();
        }
        let cells = columns.iter().cloned().zip(record.iter());
        let cells = cells.map(|(column, cell)| Ok((column, Value::String(utf8(cell.to_vec())?))));
        let cells: Result<_> = cells.collect();
        Ok((line, cells.with_context(|| format!("{name}:{line}"))?))
    }))
}

/// The csv crate ends a record at CR, and so has not yet counted the line when the next one starts at LF.
fn line_of(position: Option<&csv::Position>, crlf: bool) -> u64 {
    position.map_or(0, |at| at.line() + u64::from(crlf && at.byte() > 0))
}

fn header(record: &ByteRecord) -> Result<Vec<String>> {
    let columns: Vec<String> =
        record.iter().map(|cell| utf8(cell.to_vec())).collect::<Result<_>>()?;
    for (i, column) in columns.iter().enumerate() {
        ensure!(!columns[..i].contains(column), "column `{column}` is there twice");
    }
    Ok(columns)
}

fn table_cause(name: &str, error: csv::Error, crlf: bool) -> anyhow::Error {
    let line = line_of(error.position(), crlf);
    match error.into_kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow!("{name}:{line}: the row has {len} fields, the first one {expected_len}")
        }
        ErrorKind::Io(error) => match error.downcast::<Unclosed>() {
            Ok(Unclosed { line }) => fault(
                format!("{name}:{line}: the quote that opens here is not closed"),
                "a quote that is text stands twice in a quoted cell; --format tsv knows no quoting",
            ),
            Err(error) => anyhow::Error::from(error).context(name.to_owned()),
        },
        other => anyhow!("{name}:{line}: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(name: &str, bytes: &[u8], header: bool) -> Result<Vec<Record>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        records(&path, None, header)?.collect()
    }

    fn json(records: &[Record]) -> String {
        serde_json::to_string(records).unwrap()
    }

    #[test]
    fn csv_quotes_double_and_backslashes_stay() {
        let rows =
            read("a.csv", b"\xef\xbb\xbfid,text\r\n1,\"a \"\"b\"\" \\\n c\"\r\n2,\\d\r\n", true);
        let expected = r#"[[2,{"id":"1","text":"a \"b\" \\\n c"}],[4,{"id":"2","text":"\\d"}]]"#;
        assert_eq!(json(&rows.unwrap()), expected);
    }

    #[test]
    fn tables_without_header_number_their_columns() {
        let rows = read("a.tsv", b"\"x\t1\ny\"\t2\n", false).unwrap();
        assert_eq!(json(&rows), r#"[[1,{"0":"\"x","1":"1"}],[2,{"0":"y\"","1":"2"}]]"#);
    }

    #[test]
    fn text_keeps_empty_lines_and_json_skips_them() {
        let rows = read("a.txt", b"one\r\n\n three", true).unwrap();
        assert_eq!(json(&rows), r#"[[1,{"text":"one"}],[2,{"text":""}],[3,{"text":" three"}]]"#);
        assert_eq!(json(&read("a", b" \n{\"a\":1}\n\n", true).unwrap()), r#"[[2,{"a":1}]]"#);
    }

    #[test]
    fn gzip_is_seen_by_its_bytes_and_members_join() {
        let mut bytes = Vec::new();
        for part in ["{\"a\":1}\n", "{\"a\":2}\n"] {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(part.as_bytes()).unwrap();
            bytes.extend(out.finish().unwrap());
        }
        assert_eq!(read("a.jsonl.gz", &bytes, true).unwrap().len(), 2);
        assert!(read("a.jsonl.gz", &bytes[..bytes.len() - 12], true).is_err());
    }

    #[test]
    fn bad_rows_are_placed() {
        let cause = |name, bytes: &[u8]| {
            let error = format!("{:#}", read(name, bytes, true).unwrap_err());
            error.split_once(name).unwrap().1.to_owned()
        };
        assert_eq!(cause("a.csv", b"a,b\n1,2\n3\n"), ":3: the row has 1 fields, the first one 2");
        assert_eq!(cause("a.csv", b"a,a\n"), ":1: column `a` is there twice");
        assert_eq!(cause("a.txt", b"ok\nb\xff\n"), ":2: not UTF-8: byte 2 is 0xff");
        assert_eq!(cause("a.csv", b"a\nb\xff\n"), ":2: not UTF-8: byte 2 is 0xff");
        assert!(cause("a.jsonl", b"{}\n[1]\n").starts_with(":2: not a JSON object: "));
        assert_eq!(cause("a.txt", b"ok\nb\0\n"), ":2: not text: byte 2 is 0");
        let unclosed = ":3: the quote that opens here is not closed";
        assert_eq!(cause("a.csv", b"a,b\n1,2\n3,\"4\n5,6\n"), unclosed);
    }

    #[test]
    fn endings_are_read_in_any_case() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!([of("x.CSV"), of("x.Tsv.GZ")], [Some(Format::Csv), Some(Format::Tsv)]);
        for name in ["a.json.gz", "a.tar.gz", "A.PARQUET", "a.tgz"] {
            assert!(is_foreign(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_very_long_line_is_one_document() {
        let rows = read("a.txt", &vec![b'a'; 100 << 20], true).unwrap();
        assert_eq!(rows[0].1["text"].as_str().unwrap().len(), 100 << 20);
    }
}
