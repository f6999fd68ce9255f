//! Parquet as the hub has it, written by the parquet crate.

use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{cause, folder, open, rows, survives};

const SCHEMA: &str = "message schema {
    OPTIONAL BYTE_ARRAY text (UTF8);
    OPTIONAL INT64 label;
    OPTIONAL GROUP meta { OPTIONAL BYTE_ARRAY title (UTF8); }
    OPTIONAL GROUP tags (LIST) { REPEATED GROUP list { OPTIONAL BYTE_ARRAY element (UTF8); } }
}";

/// Row groups of texts, each with a label, a title and a list of one tag; the names of the classes in the footer.
fn written(groups: &[&[(&[u8], i64)]], classes: &[&str], compression: Compression) -> Vec<u8> {
    let features = serde_json::json!({"info": {"features": {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": classes, "_type": "ClassLabel"},
    }}});
    let footer = vec![KeyValue::new("huggingface".into(), features.to_string())];
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_key_value_metadata((!classes.is_empty()).then_some(footer))
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for rows in groups {
        let mut group = file.next_row_group().unwrap();
        let levels = |level: i16| vec![level; rows.len()];
        let texts: Vec<ByteArray> =
            rows.iter().map(|(text, _)| ByteArray::from(text.to_vec())).collect();
        let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
        for (column, level) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            let mut writer = group.next_column().unwrap().unwrap();
            let (level, zeros) = (levels(level), levels(0));
            let repeated = (column == 3).then_some(&zeros[..]);
            match column {
                1 => writer.typed::<Int64Type>().write_batch(&labels, Some(&level), None),
                _ => writer.typed::<ByteArrayType>().write_batch(&texts, Some(&level), repeated),
            }
            .unwrap();
            writer.close().unwrap();
        }
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

const ROWS: &[(&[u8], i64)] = &[(b"one", 0), (b"", 1), ("zwölf\n\0".as_bytes(), -1)];

#[test]
fn integers_have_the_names_of_the_footer() {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
        let bytes = written(&[ROWS, &[(b"two", 1)]], &["World", "Sports"], compression);
        let dir = folder(&[("a.parquet", bytes)]);
        assert_eq!(open(&dir, &["a.parquet"], &[]).unwrap().labels, ["World", "Sports"]);
        let read = rows(&dir, &["a.parquet"], &[]).unwrap();
        let read: Vec<(&str, Option<&str>, u64)> =
            read.iter().map(|row| (row.text.as_str(), row.label.as_deref(), row.row)).collect();
        let (world, sports) = (Some("World"), Some("Sports"));
        let expected =
            [("one", world, 0), ("", sports, 1), ("zwölf\n\0", None, 2), ("two", sports, 3)];
        assert_eq!(read, expected);
    }
}

#[test]
fn without_names_integers_stay_and_paths_lead_into_groups() {
    let rows_of = |count| vec![(&b"x"[..], 7); count];
    let bytes = written(&[&rows_of(600), &rows_of(1)], &[], Compression::SNAPPY);
    let dir = folder(&[("no-ending", bytes)]);
    let read = rows(&dir, &["no-ending"], &["--text", "meta.title"]).unwrap();
    assert_eq!((read.len(), read[600].row), (601, 600));
    assert!(read.iter().all(|row| row.text == "x" && row.label.as_deref() == Some("7")));
    let lists = cause(&dir, &["no-ending"], &["--text", "tags"]);
    assert_eq!(lists, "no-ending:1: column `tags` is not text");
}

#[test]
fn files_must_agree_on_their_classes() {
    let of = |classes: &[&str]| written(&[ROWS], classes, Compression::SNAPPY);
    let dir = folder(&[
        ("a.parquet", of(&["x", "y"])),
        ("b.parquet", of(&["y", "x"])),
        ("c.parquet", of(&[])),
    ]);
    let error = cause(&dir, &["a.parquet", "b.parquet"], &[]);
    assert_eq!(error, "b.parquet: other classes of `label` than in the files before it");
    assert_eq!(
        rows(&dir, &["c.parquet", "b.parquet"], &[]).unwrap()[0].label.as_deref(),
        Some("y")
    );
}

#[test]
fn text_that_is_not_utf8_is_a_bad_row() {
    let bytes = written(&[&[(b"ok", 0), (b"b\xff", 0)]], &[], Compression::SNAPPY);
    let dir = folder(&[("a.parquet", bytes)]);
    let error = cause(&dir, &["a.parquet"], &[]);
    assert_eq!(error, "a.parquet:2: column `text`: not UTF-8: byte 2 is 0xff");
    assert_eq!(rows(&dir, &["a.parquet"], &["--skip-bad"]).unwrap().len(), 1);
    assert_eq!(rows(&dir, &["a.parquet"], &["--lossy"]).unwrap()[1].text, "b\u{fffd}");
}

#[test]
fn what_is_no_parquet_is_said() {
    let whole = written(&[ROWS], &[], Compression::SNAPPY);
    let dir = folder(&[("cut.parquet", &whole[..whole.len() - 1]), ("a.parquet", b"{}")]);
    assert!(cause(&dir, &["cut.parquet"], &[]).starts_with("cut.parquet: Parquet: "));
    let not = "a.parquet: not a Parquet file: it does not begin with PAR1";
    assert_eq!(cause(&dir, &["a.parquet"], &[]), not);
}

proptest! {
    #[test]
    fn damaged_parquet_is_rows_or_an_error(
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        skip: bool,
    ) {
        let mut bytes = written(&[ROWS, ROWS], &["x", "y"], Compression::SNAPPY);
        if let Some(cut) = cut {
            let at = cut.index(bytes.len());
            bytes.remove(at);
        }
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let dir = folder(&[("a.parquet", bytes)]);
        survives(&dir, "a.parquet", if skip { &["--skip-bad", "--lossy"] } else { &[] });
    }
}
