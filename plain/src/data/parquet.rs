//! Parquet: the leaf columns that hold one value a row, by the path of their names, and lists of values.
//!
//! The parquet crate panics on some damaged files, so it works on threads of its own, where that is an error.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::iter;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};
use parquet::basic::{ConvertedType, Repetition, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::read::{Name, Record, name_of};
use crate::flags::{CAUGHT, fault};

/// Rows read at a time; the next ones are read meanwhile.
const ROWS: usize = 256;
const MAGIC: &[u8; 4] = b"PAR1";

/// Names of the classes of each column that has them, the integer i being names[i].
pub type Classes = HashMap<String, Vec<String>>;

/// What the `datasets` library keeps in the footer under `huggingface`.
#[derive(Deserialize)]
struct Footer {
    info: Option<Info>,
}

#[derive(Deserialize)]
struct Info {
    features: Option<Map<String, Value>>,
}

/// The rows of a file, numbered from 1 in place of lines.
pub fn records(
    path: &Path,
    lossy: bool,
) -> Result<impl Iterator<Item = Result<Record>> + Send + use<>> {
    let (send, receive) = sync_channel(2);
    let owned = path.to_owned();
    let mut worker = Some(caught(move || read(&owned, lossy, &send))?);
    let name = name_of(path);
    let end =
        iter::from_fn(move || finish(worker.take()?).with_context(|| name.clone()).err().map(Err));
    Ok(receive.into_iter().flatten().map(Ok).chain(end))
}

/// The names of classes in the footer.
pub fn classes(path: &Path) -> Result<Classes> {
    let owned = path.to_owned();
    finish(caught(move || footer_classes(&owned))?).with_context(|| name_of(path))
}

fn caught<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    Ok(Builder::new().name(CAUGHT.into()).spawn(work)?)
}

fn finish<T>(worker: JoinHandle<Result<T>>) -> Result<T> {
    worker.join().unwrap_or_else(|_| bail!("the Parquet file is damaged"))
}

fn cause(error: ParquetError) -> anyhow::Error {
    match error {
        ParquetError::General(cause) | ParquetError::NYI(cause) | ParquetError::EOF(cause) => {
            anyhow!("Parquet: {cause}")
        }
        other => anyhow!("Parquet: {other}"),
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    if !path.is_file() {
        return Err(fault(
            "Parquet is read from its end, so not from a pipe",
            "write it to a file and give its name",
        ));
    }
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut head)?;
    ensure!(head == MAGIC, "not a Parquet file: it does not begin with PAR1");
    SerializedFileReader::new(file).map_err(cause)
}

fn footer_classes(path: &Path) -> Result<Classes> {
    let file = open(path)?;
    let mut entries = file.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let entry = entries.find(|entry| entry.key == "huggingface");
    let Some(json) = entry.and_then(|entry| entry.value.as_ref()) else {
        return Ok(Classes::new());
    };
    let footer: Footer =
        serde_json::from_str(json).context("`huggingface` in the footer of the file")?;
    let features = footer.info.and_then(|info| info.features).unwrap_or_default();
    let named = |(column, feature): (&String, &Value)| {
        let is_list =
            ["Sequence", "List", "LargeList"].iter().any(|kind| feature["_type"] == *kind);
        let class = if is_list { &feature["feature"] } else { feature };
        let names = (class["_type"] == "ClassLabel").then(|| class["names"].clone())?;
        Some((column.clone(), serde_json::from_value(names).ok()?))
    };
    Ok(features.iter().filter_map(named).collect())
}

/// Sends the rows on until there are no more, or nobody wants them.
fn read(path: &Path, lossy: bool, send: &SyncSender<Vec<Record>>) -> Result<()> {
    let (file, name) = (open(path)?, Name::from(name_of(path)));
    let mut row = 0;
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).map_err(cause)?;
        let mut columns = columns(&*group, lossy)?;
        let mut left = usize::try_from(group.metadata().num_rows())?;
        while left > 0 {
            let count = left.min(ROWS);
            let mut rows: Vec<Result<Map<String, Value>>> =
                iter::repeat_with(|| Ok(Map::new())).take(count).collect();
            for column in &mut columns {
                column.fill(&mut rows)?;
            }
            let record = |cells| {
                row += 1;
                Record { name: name.clone(), line: row, cells, is_header: false }
            };
            if send.send(rows.into_iter().map(record).collect()).is_err() {
                return Ok(());
            }
            left -= count;
        }
    }
    Ok(())
}

/// A column while it is read.
struct Column {
    name: String,
    /// None where it has no value a row that a text or a label could be.
    reader: Option<ColumnReader>,
    levels: Levels,
    unsigned: bool,
    /// Whether the schema says that the bytes are text.
    text: bool,
    lossy: bool,
}

/// What the levels beside the values say.
#[derive(Clone, Copy)]
struct Levels {
    /// From here on a value is there; 0 where one always is.
    present: i16,
    /// Of lists, from here on an element is there, if only a null; one below, the list is empty.
    element: Option<i16>,
}

impl Levels {
    fn of(about: &ColumnDescriptor) -> Self {
        let (present, leaf) = (about.max_def_level(), about.self_type().get_basic_info());
        let may_be_null = leaf.repetition() == Repetition::OPTIONAL;
        let element = (about.max_rep_level() > 0).then(|| present - i16::from(may_be_null));
        Self { present, element }
    }
}

fn columns(group: &dyn RowGroupReader, lossy: bool) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    for (i, chunk) in group.metadata().columns().iter().enumerate() {
        let about = chunk.column_descr();
        let name = match about.max_rep_level() {
            0 => about.path().string(),
            _ => about.path().parts().first().cloned().unwrap_or_default(),
        };
        if columns.iter().any(|column| column.name == name && column.reader.is_none()) {
            continue;
        }
        ensure!(columns.iter().all(|column| column.name != name), "column `{name}` is there twice");
        let reader = is_read(about).then(|| group.get_column_reader(i)).transpose();
        columns.push(Column {
            name,
            reader: reader.map_err(cause)?,
            levels: Levels::of(about),
            unsigned: unsigned(about.converted_type()),
            text: matches!(about.converted_type(), ConvertedType::UTF8 | ConvertedType::JSON),
            lossy,
        });
    }
    ensure!(
        columns.iter().any(|column| column.reader.is_some()),
        "no column holds text or numbers"
    );
    Ok(columns)
}

/// Whether a column holds a number, a bool or bytes a row, or a list of them.
fn is_read(about: &ColumnDescriptor) -> bool {
    let odd = matches!(about.physical_type(), Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY);
    let parts: Vec<_> = about.path().parts().iter().map(String::as_str).collect();
    let is_list =
        matches!(parts[..], [_, "list", "element" | "item"] | [_, "bag", "array_element"]);
    let single = about.max_rep_level() == 0 || (about.max_rep_level() == 1 && is_list);
    single && !odd && about.converted_type() != ConvertedType::DECIMAL
}

fn unsigned(kind: ConvertedType) -> bool {
    use ConvertedType::{UINT_8, UINT_16, UINT_32, UINT_64};
    matches!(kind, UINT_8 | UINT_16 | UINT_32 | UINT_64)
}

impl Column {
    /// Reads the next cell of every row.
    fn fill(&mut self, rows: &mut [Result<Map<String, Value>>]) -> Result<()> {
        use ColumnReader::*;
        let (count, levels, unsigned) = (rows.len(), self.levels, self.unsigned);
        let (text, lossy) = (self.text, self.lossy);
        let cells = match &mut self.reader {
            Some(BoolColumnReader(r)) => take(r, count, levels, |x| Ok(x.into())),
            Some(Int32ColumnReader(r)) if unsigned => {
                take(r, count, levels, |x| Ok(x.cast_unsigned().into()))
            }
            Some(Int64ColumnReader(r)) if unsigned => {
                take(r, count, levels, |x| Ok(x.cast_unsigned().into()))
            }
            Some(Int32ColumnReader(r)) => take(r, count, levels, |x| Ok(x.into())),
            Some(Int64ColumnReader(r)) => take(r, count, levels, |x| Ok(x.into())),
            Some(FloatColumnReader(r)) => take(r, count, levels, |x| Ok(x.into())),
            Some(DoubleColumnReader(r)) => take(r, count, levels, |x| Ok(x.into())),
            Some(ByteArrayColumnReader(r)) => {
                take(r, count, levels, |x: ByteArray| string(x.data(), text, lossy))
            }
            _ => Ok(iter::repeat_with(|| Ok(not_read())).take(count).collect()),
        };
        let cells = cells.with_context(|| format!("column `{}`", self.name))?;
        for (row, cell) in rows.iter_mut().zip(cells) {
            match (&mut *row, cell) {
                (Ok(row), Ok(cell)) => drop(row.insert(self.name.clone(), cell)),
                (Ok(_), Err(error)) => {
                    *row = Err(error.context(format!("column `{}`", self.name)));
                }
                (Err(_), _) => {}
            }
        }
        Ok(())
    }
}

/// What stands for a value that is neither text nor a number: no text and no label, nor an empty list of them.
fn not_read() -> Value {
    Map::new().into()
}

fn take<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
    Levels { present, element }: Levels,
    value: impl Fn(T::T) -> Result<Value>,
) -> Result<Vec<Result<Value>>> {
    let (mut levels, mut starts, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let begins = element.map(|_| &mut starts);
    let (rows, ..) =
        reader.read_records(count, Some(&mut levels), begins, &mut values).map_err(cause)?;
    ensure!(rows == count, "Parquet: it has fewer rows than the file");
    let mut values = values.into_iter();
    if present == 0 {
        return Ok(values.map(value).collect());
    }
    let mut cell = |level| match level == present {
        true => values.next().map_or_else(|| Err(anyhow!("Parquet: a value is missing")), &value),
        false => Ok(Value::Null),
    };
    let Some(element) = element else { return Ok(levels.into_iter().map(cell).collect()) };
    let mut rows = Vec::new();
    for (level, start) in levels.into_iter().zip(starts) {
        if start == 0 {
            rows.push(Ok(if level + 1 < element { Value::Null } else { Value::Array(vec![]) }));
        }
        if let Some(row) = rows.last_mut().filter(|_| level >= element) {
            append(row, cell(level));
        }
    }
    Ok(rows)
}

/// Adds an element to a list; what cannot be read takes the place of all of it.
fn append(row: &mut Result<Value>, element: Result<Value>) {
    match (row.as_mut().map(Value::as_array_mut), element) {
        (Ok(Some(all)), Ok(element)) => all.push(element),
        (Ok(_), Err(error)) => *row = Err(error),
        _ => {}
    }
}

/// Bytes that nothing calls text may still be, as older programs wrote it.
fn string(bytes: &[u8], text: bool, lossy: bool) -> Result<Value> {
    match str::from_utf8(bytes) {
        Ok(valid) => Ok(valid.into()),
        Err(_) if lossy => Ok(String::from_utf8_lossy(bytes).into()),
        Err(_) if !text => Ok(not_read()),
        Err(error) => {
            let at = error.valid_up_to();
            bail!("not UTF-8: byte {} is 0x{:02x}", at + 1, bytes[at])
        }
    }
}
