//! Files to records: CSV, TSV, JSON lines, Parquet or plain text, compressed or not, one file after the other.

use std::fs::File;
use std::io;
use std::iter;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::bytes::Source;
use super::utf8::{lossy, strict};
use super::{documents, parquet, table};
use crate::flags::{fault, usage};

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma separated, fields in double quotes where needed, those in them doubled; a backslash is itself
    Csv,
    /// Tab separated, no quoting
    Tsv,
    /// One JSON object a line
    Jsonl,
    /// Parquet, as the Hugging Face hub has it; the class names of its footer give integer labels their names
    Parquet,
    /// Documents in a column called `text`, by default one a line
    Text,
}

/// What a document is in a file of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Documents {
    /// Every line, also an empty one
    #[default]
    Line,
    /// The lines between blank lines
    Paragraph,
}

/// How files are read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reading {
    /// How rows are written [default: by the file's ending, else by its first bytes]
    #[arg(long)]
    pub format: Option<Format>,

    /// CSV and TSV have no header row: columns are called 0, 1, …
    #[arg(long)]
    pub no_header: bool,

    /// What a document is in a file of text
    #[arg(long, value_name = "UNIT", default_value = "line")]
    pub documents: Documents,

    /// Put U+FFFD for bytes that are not UTF-8 and for NULs, instead of failing
    #[arg(long)]
    pub lossy: bool,

    /// Leave out rows that cannot be read, and say how many, instead of failing; row numbers still count them
    #[arg(long)]
    pub skip_bad: bool,
}

/// How messages call a file.
pub type Name = Arc<str>;

/// A row as read.
#[derive(Debug)]
pub struct Record {
    pub name: Name,
    /// The line it starts on, or the row of a Parquet file, from 1.
    pub line: u64,
    /// Column names and values; an error for this row alone.
    pub cells: Result<Map<String, Value>>,
    /// No row but the names of a table's columns, the cells empty.
    pub is_header: bool,
}

/// Rows in order; an error of the iterator itself ends it.
pub type Records = Box<dyn Iterator<Item = Result<Record>> + Send>;

impl Format {
    /// The format a file name tells, `.gz` and `.zst` left aside.
    pub fn of(path: &Path) -> Option<Self> {
        match ending(path)?.as_str() {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            "txt" | "text" => Some(Self::Text),
            _ => None,
        }
    }

    pub fn is_table(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }
}

/// The ending of a file's name in lower case, `.gz` and `.zst` left aside.
fn ending(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    name.rsplit_once('.').map(|(_, ending)| ending.to_owned())
}

/// How messages call `path`.
pub fn name_of(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether it is a file, all there, not what somebody may still be writing.
pub fn is_whole(path: &Path) -> bool {
    let is_file = |fd| File::from(fd).metadata().is_ok_and(|about| about.is_file());
    match is_stdin(path) {
        true => io::stdin().as_fd().try_clone_to_owned().is_ok_and(is_file),
        false => path.is_file(),
    }
}

/// Whether the name says a format that would pass for text but is none.
fn is_foreign(path: &Path) -> bool {
    let foreign = ["json", "arrow", "zip", "xz", "bz2", "tar", "tgz", "xlsx", "pkl"];
    ending(path).is_some_and(|ending| foreign.contains(&ending.as_str()))
}

/// Opens files as one, `-` being standard input; all but the first when their turn comes. Errors name the file and,
/// where a row is to blame, the line.
pub fn open(files: &[PathBuf], reading: &Reading) -> Result<Records> {
    let Some((first, rest)) = files.split_first() else { return Ok(Box::new(iter::empty())) };
    let (rest, reading) = (rest.to_owned(), reading.clone());
    let first = reading.records(first)?;
    let rest = rest.into_iter().flat_map(move |path| {
        reading.records(&path).unwrap_or_else(|error| Box::new(iter::once(Err(error))))
    });
    Ok(Box::new(first.chain(rest)))
}

/// The names that Parquet files give the classes of their columns; they MUST be the same in all that have them.
pub fn classes(files: &[PathBuf], reading: &Reading) -> Result<parquet::Classes> {
    let mut all = parquet::Classes::new();
    for path in files.iter().filter(|path| reading.is_parquet(path)) {
        for (column, names) in parquet::classes(path)? {
            let known = all.entry(column.clone()).or_insert_with(|| names.clone());
            if *known != names {
                bail!(
                    "{}: other classes of `{column}` than in the files before it",
                    path.display()
                );
            }
        }
    }
    Ok(all)
}

impl Reading {
    /// Whether a file is Parquet, by its name or by its first bytes; a pipe is not looked into.
    fn is_parquet(&self, path: &Path) -> bool {
        let by_bytes =
            || Some(path.is_file() && Source::open(path).is_ok_and(|source| source.parquet));
        let by_name = self.format.or_else(|| Format::of(path));
        by_name.map(|format| format == Format::Parquet).or_else(by_bytes) == Some(true)
    }

    /// Fails where a flag means nothing for this format.
    fn check(&self, name: &str, format: Format) -> Result<()> {
        let paragraphs = self.documents == Documents::Paragraph && format != Format::Text;
        let cause = || usage(format!("{name}: --documents paragraph is for files of text"));
        ensure!(!paragraphs, cause().hint("--format text reads it as text"));
        let cause = || usage(format!("{name}: --no-header is for CSV and TSV"));
        let cure = "--format csv or tsv reads it as a table";
        ensure!(!self.no_header || format.is_table(), cause().hint(cure));
        Ok(())
    }

    /// Without a format the name decides, then the first bytes: `PAR1` begins Parquet, `{` JSON lines, anything else is
    /// text.
    fn records(&self, path: &Path) -> Result<Records> {
        let name = Name::from(name_of(path));
        if self.format.is_none() && is_foreign(path) {
            return Err(fault(
                format!("{name}: files of this kind are not read"),
                "CSV, TSV, JSON lines, Parquet and text are, all but Parquet also in .gz or .zst; --format says \
                 which, whatever the name",
            ));
        }
        let told = self.format.or_else(|| Format::of(path));
        if told == Some(Format::Parquet) {
            self.check(&name, Format::Parquet)?;
            return Ok(Box::new(parquet::records(path, self.lossy)?));
        }
        let source = Source::open(path).with_context(|| name.to_string())?;
        let sniffed = match (source.parquet, source.braced) {
            (true, _) => Format::Parquet,
            (_, true) => Format::Jsonl,
            _ => Format::Text,
        };
        let (format, header) = (told.unwrap_or(sniffed), !self.no_header);
        self.check(&name, format)?;
        let decode = if self.lossy { lossy } else { strict };
        Ok(match format {
            Format::Csv => table::csv(name, source, header, decode)?,
            Format::Tsv => table::tsv(name, source, header, decode)?,
            Format::Jsonl => Box::new(documents::json_lines(name, source.input, decode)),
            Format::Parquet => Box::new(parquet::records(path, self.lossy)?),
            Format::Text => match self.documents {
                Documents::Line => Box::new(documents::text_lines(name, source.input, decode)),
                Documents::Paragraph => Box::new(documents::paragraphs(name, source.input, decode)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The lines and cells of a file of this name; an error with its place.
    fn read(name: &str, bytes: &[u8], reading: &Reading) -> Result<Vec<(u64, Map<String, Value>)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let cells = |record: Result<Record>| {
            let Record { name, line, cells, .. } = record?;
            Ok((line, cells.with_context(|| format!("{name}:{line}"))?))
        };
        let is_row = |record: &Result<Record>| record.as_ref().map_or(true, |r| !r.is_header);
        open(&[path], reading)?.filter(is_row).map(cells).collect()
    }

    fn plain() -> Reading {
        Reading::default()
    }

    fn json(records: &[(u64, Map<String, Value>)]) -> String {
        serde_json::to_string(records).unwrap()
    }

    #[test]
    fn csv_quotes_double_and_backslashes_stay() {
        let rows = read(
            "a.csv",
            b"\xef\xbb\xbfid,text\r\n1,\"a \"\"b\"\" \\\n c\"\r\n2,\\d\r\n",
            &plain(),
        );
        let expected = r#"[[2,{"id":"1","text":"a \"b\" \\\n c"}],[4,{"id":"2","text":"\\d"}]]"#;
        assert_eq!(json(&rows.unwrap()), expected);
    }

    #[test]
    fn tables_without_header_number_their_columns() {
        let rows =
            read("a.tsv", b"\"x\t1\ny\"\t2\n", &Reading { no_header: true, ..plain() }).unwrap();
        assert_eq!(json(&rows), r#"[[1,{"0":"\"x","1":"1"}],[2,{"0":"y\"","1":"2"}]]"#);
    }

    #[test]
    fn text_keeps_empty_lines_and_json_skips_them() {
        let rows = read("a.txt", b"one\r\n\n three", &plain()).unwrap();
        assert_eq!(json(&rows), r#"[[1,{"text":"one"}],[2,{"text":""}],[3,{"text":" three"}]]"#);
        assert_eq!(json(&read("a", b" \n{\"a\":1}\n\n", &plain()).unwrap()), r#"[[2,{"a":1}]]"#);
    }

    #[test]
    fn gzip_is_seen_by_its_bytes_and_members_join() {
        let mut bytes = Vec::new();
        for part in ["{\"a\":1}\n", "{\"a\":2}\n"] {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(part.as_bytes()).unwrap();
            bytes.extend(out.finish().unwrap());
        }
        assert_eq!(read("a.jsonl.gz", &bytes, &plain()).unwrap().len(), 2);
        assert!(read("a.jsonl.gz", &bytes[..bytes.len() - 12], &plain()).is_err());
    }

    #[test]
    fn bad_rows_are_placed() {
        let cause = |name, bytes: &[u8]| {
            let error = format!("{:#}", read(name, bytes, &plain()).unwrap_err());
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
        assert_eq!([of("x.txt.zst"), of("x.zst")], [Some(Format::Text), None]);
        for name in ["a.json.gz", "a.tar.zst", "A.PKL", "a.tgz"] {
            assert!(is_foreign(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_very_long_line_is_one_document() {
        let long = "a".repeat(100 << 20);
        for (name, text) in [
            ("a.txt", long.clone()),
            ("a.jsonl", format!("{{\"text\":\"{long}\"}}")),
            ("a.csv", format!("text\n{long}")),
        ] {
            let rows = read(name, text.as_bytes(), &plain()).unwrap();
            assert_eq!(rows[0].1["text"].as_str().unwrap().len(), 100 << 20);
        }
    }
}
