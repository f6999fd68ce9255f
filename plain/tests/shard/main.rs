//! The shard format from outside: what is written is read back, masks keep their promises, and no bytes at all,
//! however they came about, do worse than an error.
#![allow(clippy::unwrap_used)]

mod hostile;

use std::fs;
use std::io::Cursor;

use anyhow::Result;
use plain::shard::masking::Replace;
use plain::shard::{
    Header, MaskedBy, Masker, Masking, Segment, Segments, Sequence, Special, Unit, Writer,
    segments, write_masked,
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
    Header { tokenizer, vocab_size, special, max_length: 64, stride: None, source, command }
}

fn by(seed: u64, epoch: u64, prob: f64) -> MaskedBy {
    let masking = Masking { prob, replace: Replace([0.8, 0.1, 0.1]), unit: Unit::Token };
    MaskedBy { masking, seed, epoch, epochs: 1 }
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
    fn masks_can_be_undone((header, sequences) in shard(), seed: u64, prob in 0.0..=1.0) {
        let plain = write(&header, &sequences);
        let masked = one(&masked(&plain, &by(seed, 3, prob)));
        prop_assert_eq!(masked.masked_by().unwrap(), &by(seed, 3, prob));
        for (i, sequence) in sequences.iter().enumerate() {
            let view = masked.view(i);
            let mut restored: Vec<u32> = view.tokens.iter().collect();
            for (at, target) in view.masked().zip(view.targets.iter()) {
                prop_assert!(target >= SPECIAL, "a special token is masked");
                restored[at] = target;
            }
            prop_assert_eq!(view.masked().count(), view.targets.len());
            prop_assert_eq!(&restored, &sequence.tokens);
        }
        let rest = |all: Vec<Sequence>| -> Vec<_> {
            all.into_iter().map(|s| (s.words, s.second, s.label, s.row)).collect()
        };
        prop_assert_eq!(rest(contents(&masked)), rest(sequences));
    }

    #[test]
    fn a_sequence_alone_is_masked_as_in_the_stream((header, sequences) in shard(), seed: u64, epoch: u64) {
        let plain = one(&write(&header, &sequences));
        let stream = one(&masked(plain.bytes(), &by(seed, epoch, 0.3)));
        let masker = Masker::new(&by(seed, epoch, 0.3), &header).unwrap();
        for i in (0..plain.len()).rev() {
            let alone = masker.mask(&plain.view(i), i as u64);
            let view = stream.view(i);
            prop_assert_eq!(alone.tokens, view.tokens.iter().collect::<Vec<_>>());
            prop_assert_eq!(alone.targets, view.targets.iter().collect::<Vec<_>>());
            prop_assert_eq!(alone.masked, view.masked().map(|at| at as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn where_a_stream_is_cut_into_segments_does_not_matter((header, sequences) in shard(), cut: prop::sample::Index) {
        let cut = cut.index(sequences.len() + 1);
        let (front, back) = sequences.split_at(cut);
        let parts = [write(&header, front), write(&header, back)].concat();
        let whole = write(&header, &sequences);
        let tokens = |bytes: &[u8]| all_contents(&read(&masked(bytes, &by(7, 0, 0.4))).unwrap());
        prop_assert_eq!(tokens(&parts), tokens(&whole));
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

/// Touches whatever a program would touch of a segment that passed for valid.
fn use_all(segment: &Segment) {
    contents(segment);
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

fn many(count: u32) -> Vec<Sequence> {
    let tokens = |i: u32| (0..50).map(|t| (i * 31 + t * 7) % 1000).collect();
    let sequence = |i| Sequence {
        tokens: tokens(i),
        words: vec![true; 50],
        row: i.into(),
        ..Sequence::default()
    };
    (0..count).map(sequence).collect()
}

#[test]
fn masks_come_at_their_rates() {
    let sequences = many(4000);
    let segment = one(&masked(&write(&header(1000), &sequences), &by(1, 0, 0.15)));
    let maskable = sequences.iter().flat_map(|s| &s.tokens).filter(|&&id| id >= SPECIAL).count();
    let mut seen = [0.0; 3];
    for i in 0..segment.len() {
        let view = segment.view(i);
        let tokens: Vec<u32> = view.tokens.iter().collect();
        for (at, target) in view.masked().zip(view.targets.iter()) {
            let now = tokens[at];
            seen[if now == 4 {
                0
            } else if now == target {
                2
            } else {
                1
            }] += 1.0;
        }
    }
    let count: f64 = seen.iter().sum();
    // Five standard deviations: it fails once in a million seeds, and the seed is fixed.
    let near = |seen: f64, of: f64, share: f64| {
        let spread = (share * (1.0 - share) * of).sqrt();
        assert!((seen - share * of).abs() < 5.0 * spread, "{seen} of {of}, not {share}");
    };
    near(count, maskable as f64, 0.15);
    [0.8, 0.1, 0.1].iter().zip(seen).for_each(|(&share, seen)| near(seen, count, share));
}

#[test]
fn masks_depend_on_seed_and_epoch_alone() {
    let plain = write(&header(1000), &many(300));
    let with = |seed, epoch| masked(&plain, &by(seed, epoch, 0.15));
    assert_eq!(with(1, 0), with(1, 0));
    let tokens = |bytes: &[u8]| contents(&one(bytes));
    assert_ne!(tokens(&with(1, 0)), tokens(&with(2, 0)));
    assert_ne!(tokens(&with(1, 0)), tokens(&with(1, 1)));
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| with(1, 0)), with(1, 0));
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
        "some rows have a label",
    );
    let mut writer = Writer::new(Vec::new(), header.clone());
    let error = writer.push(Sequence { second: Some(4), ..good.clone() }).unwrap_err();
    assert!(error.to_string().contains("past its end"), "{error}");
    let mut writer = Writer::new(Vec::new(), header).labels(vec!["a".into()]);
    writer.push(Sequence { label: Some("b".into()), row: 3, ..good }).unwrap();
    let error = writer.finish().map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "row 3: unknown label \"b\"");
}
