//! The shard format from outside: what is written is read back, masks keep their promises, and no bytes at all,
//! however they came about, do worse than an error.
#![allow(clippy::unwrap_used)]

mod hostile;
mod masks;

use std::fs;
use std::io::Cursor;

use anyhow::Result;
use plain::shard::{
    Header, MaskedBy, Masker, Masking, Segment, Segments, Sequence, Special, Writer, segments,
    write_masked,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

const SPECIAL: u32 = 5;

fn header(vocab_size: u32) -> Header {
    let special = Special {
        cls: 0,
        sep: 2,
        mask: Some(4),
        pad: 1,
        unk: Some(3),
        all: (0..SPECIAL).collect(),
    };
    let (tokenizer, source, command) = ("0123".into(), json!({"data": "test"}), "prep".into());
    Header {
        tokenizer,
        vocab_size,
        special,
        max_length: 64,
        stride: None,
        join: false,
        source,
        command,
    }
}

fn by(seed: u64, epoch: u64, prob: f64) -> MaskedBy {
    MaskedBy {
        masking: Masking { prob, ..Default::default() },
        seed,
        epoch,
        epochs: 1,
        draw: 0,
        draws: 1,
    }
}

fn write(header: &Header, sequences: &[Sequence]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header.clone());
    sequences.iter().for_each(|sequence| writer.push(sequence.clone()).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<Segment>> {
    Segments::stream("test", Box::new(Cursor::new(bytes.to_vec()))).collect()
}

/// The same bytes as a file that is mapped.
fn read_mapped(bytes: &[u8]) -> Result<Vec<Segment>> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    segments(file.path())?.collect()
}

fn one(bytes: &[u8]) -> Segment {
    read(bytes).unwrap().pop().unwrap()
}

fn masked(bytes: &[u8], by: &MaskedBy) -> Vec<u8> {
    let (mut out, mut first) = (Vec::new(), 0);
    for segment in read(bytes).unwrap() {
        let masker = Masker::new(by, segment.header()).unwrap();
        write_masked(&mut out, &segment, &masker, first).unwrap();
        first += segment.len() as u64;
    }
    out
}

/// Everything a segment tells of its sequences.
fn contents(segment: &Segment) -> Vec<Sequence> {
    let sequence = |i| {
        let view = segment.view(i);
        let tokens: Vec<u32> = view.tokens.iter().collect();
        Sequence {
            words: (0..tokens.len()).map(|t| view.begins_word(t)).collect(),
            tokens,
            second: view.second.map(|second| second as u16),
            label: view.label.map(|label| segment.labels()[label].clone()),
            row: view.row,
        }
    };
    (0..segment.len()).map(sequence).collect()
}

fn all_contents(segments: &[Segment]) -> Vec<Sequence> {
    segments.iter().flat_map(contents).collect()
}

fn sequence(vocab: u32, labelled: bool, pair: bool) -> impl Strategy<Value = Sequence> {
    let token = (0..vocab, any::<bool>());
    (vec(token, 1..40), "[a-z0-9é ]{0,3}", any::<u64>(), any::<prop::sample::Index>()).prop_map(
        move |(tokens, label, row, second)| Sequence {
            second: pair.then(|| second.index(tokens.len() + 1) as u16),
            tokens: tokens.iter().map(|&(id, _)| id).collect(),
            words: tokens.iter().map(|&(_, word)| word).collect(),
            label: labelled.then_some(label),
            row,
        },
    )
}

/// A vocabulary on either side of 2 bytes an id, and sequences in it.
fn shard() -> impl Strategy<Value = (Header, Vec<Sequence>)> {
    let vocab = prop_oneof![
        Just(SPECIAL + 1),
        Just(1 << 16),
        Just((1 << 16) + 1),
        Just(u32::MAX),
        6..200_000u32
    ];
    (vocab, any::<bool>(), any::<bool>()).prop_flat_map(|(vocab, labelled, pair)| {
        (Just(header(vocab)), vec(sequence(vocab, labelled, pair), 0..12))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((header, sequences) in shard()) {
        let bytes = write(&header, &sequences);
        for segments in [read(&bytes).unwrap(), read_mapped(&bytes).unwrap()] {
            prop_assert_eq!(segments.len(), 1);
            prop_assert_eq!(segments[0].header(), &header);
            prop_assert_eq!(&contents(&segments[0]), &sequences);
        }
    }

    #[test]
    fn a_segment_is_a_safetensors_file((header, sequences) in shard()) {
        let bytes = write(&header, &sequences);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tokens: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        let found = file.tensor("tokens").unwrap();
        prop_assert_eq!(found.shape(), &[tokens][..]);
        prop_assert!(safetensors::SafeTensors::deserialize(&masked(&bytes, &by(1, 0, 0.5))).is_ok());
    }

    #[test]
    fn cat_is_both(a in shard(), b in shard()) {
        let bytes = [write(&a.0, &a.1), write(&b.0, &b.1)].concat();
        let both = [a.1, b.1].concat();
        prop_assert_eq!(&all_contents(&read(&bytes).unwrap()), &both);
        prop_assert_eq!(&all_contents(&read_mapped(&bytes).unwrap()), &both);
    }

    #[test]
    fn any_bytes_are_an_error(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read_mapped(&bytes).is_err());
    }

    #[test]
    fn any_header_is_an_error(json in "\\PC{0,80}", length in 0..100u64) {
        let bytes = [&length.to_le_bytes()[..], json.as_bytes()].concat();
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read_mapped(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damage_is_found_or_harmless(
        (header, sequences) in shard(),
        hide: bool,
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep: prop::sample::Index,
        truncate: bool,
    ) {
        let mut bytes = write(&header, &sequences);
        if hide {
            bytes = masked(&bytes, &by(1, 0, 0.5));
        }
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        let whole = bytes.len();
        bytes.truncate(if truncate { keep.index(whole) } else { whole });
        let (streamed, mapped) = (read(&bytes), read_mapped(&bytes));
        prop_assert_eq!(streamed.is_ok(), mapped.is_ok());
        for segment in streamed.into_iter().flatten() {
            use_all(&segment);
        }
    }
}

/// The hash of each sequence's text, of a shard with these rows and texts.
fn texts(header: &Header, rows: &[u64], texts: &[u64]) -> Vec<Option<u64>> {
    let mut writer = Writer::new(Vec::new(), header.clone());
    texts.iter().for_each(|&hash| writer.texts((hash, None)));
    for &row in rows {
        let (tokens, words) = (vec![5], vec![true]);
        writer.push(Sequence { tokens, words, second: None, label: None, row }).unwrap();
    }
    let segment = one(&writer.finish().unwrap());
    (0..rows.len()).map(|i| segment.view(i).texts.map(|(hash, _)| hash)).collect()
}

#[test]
fn sequences_know_their_text() {
    let header = header(9);
    assert_eq!(texts(&header, &[3, 3, 5], &[7, 8]), [7, 7, 8].map(Some));
    // A text without a sequence: which one it is cannot be told.
    assert_eq!(texts(&header, &[3, 3, 5], &[7, 8, 9]), [None; 3]);
    assert_eq!(texts(&Header { join: true, ..header }, &[3, 5], &[7, 8]), [None; 2]);
}

#[test]
fn a_row_stays_in_one_segment() {
    let mut writer = Writer::new(Vec::new(), header(9));
    // A segment is full with two of them.
    let (tokens, words) = (vec![5; 1 << 23], vec![true; 1 << 23]);
    for rows in [&[0; 3][..], &[1]] {
        writer.texts((rows[0] + 10, None));
        for &row in rows {
            let (tokens, words) = (tokens.clone(), words.clone());
            writer.push(Sequence { tokens, words, second: None, label: None, row }).unwrap();
        }
    }
    let segments = read(&writer.finish().unwrap()).unwrap();
    let of = |segment: &Segment| (segment.len(), segment.view(segment.len() - 1).texts);
    let all: Vec<_> = segments.iter().map(of).collect();
    assert_eq!(all, [(3, Some((10, None))), (1, Some((11, None)))]);
}

/// Touches whatever a program would touch of a segment that passed for valid, and writes it again.
fn use_all(segment: &Segment) {
    let again = one(&write(segment.header(), &contents(segment)));
    assert_eq!(again.header(), segment.header());
    assert_eq!(contents(&again), contents(segment));
    for i in 0..segment.len() {
        let view = segment.view(i);
        assert!(view.masked().all(|at| at < view.tokens.len()));
        assert!(
            view.tokens
                .iter()
                .chain(view.targets.iter())
                .all(|id| id < segment.header().vocab_size)
        );
    }
    if segment.masked_by().is_none() && segment.header().special.mask.is_some() {
        let masker = Masker::new(&by(0, 0, 0.5), segment.header()).unwrap();
        write_masked(&mut Vec::new(), segment, &masker, 0).unwrap();
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let good = Sequence { tokens: vec![0, 9, 2], words: vec![true; 3], ..Sequence::default() };
    let refused = |header: &Header, sequence: Sequence, why: &str| {
        let mut writer = Writer::new(Vec::new(), header.clone());
        writer.push(good.clone()).unwrap();
        let error = format!("{:#}", writer.push(sequence).unwrap_err());
        assert!(error.contains(why), "{error}");
    };
    let header = header(10);
    refused(
        &header,
        Sequence { tokens: vec![10, 9, 2], ..good.clone() },
        "token 10 is not in the vocabulary",
    );
    refused(&header, Sequence { tokens: vec![], words: vec![], ..good.clone() }, "no tokens");
    refused(&header, Sequence { words: vec![true], ..good.clone() }, "word bits");
    refused(&header, Sequence { second: Some(1), ..good.clone() }, "some rows are pairs");
    refused(
        &header,
        Sequence { label: Some("a".into()), ..good.clone() },
        "has no label, and row 0 has one",
    );
    let mut writer = Writer::new(Vec::new(), header.clone());
    let error = writer.push(Sequence { second: Some(4), ..good.clone() }).unwrap_err();
    assert!(error.to_string().contains("past its end"), "{error}");
    let mut writer = Writer::new(Vec::new(), header).labels(vec!["a".into()]);
    let error = writer.push(Sequence { label: Some("b".into()), row: 3, ..good }).unwrap_err();
    assert_eq!(format!("{error:#}"), "row 3: unknown label \"b\"");
}
