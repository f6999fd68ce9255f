//! Any bytes as a token shard: an error, or segments that read the same when they are written again.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use plain::shard::{
    MaskedBy, Masker, Masking, Segment, Segments, Sequence, Statistics, Unit, Writer, write_masked,
};

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    fuzz::mutate(data, size, max, seed)
});

fuzz_target!(|bytes: &[u8]| {
    let read: Result<Vec<Segment>, _> = stream(bytes).collect();
    for n in [0, 1, usize::MAX] {
        let mut parts = stream(bytes);
        let outlines: Result<Vec<_>, _> = std::iter::from_fn(|| parts.outline(n)).collect();
        // What is whole is whole in its first sequences.
        let Ok(read) = &read else { continue };
        for (outline, segment) in outlines.unwrap().iter().zip(read) {
            assert_eq!(outline.sequences, segment.len());
            assert_eq!(sequences(&outline.first), sequences(segment)[..segment.len().min(n)]);
        }
    }
    for segment in read.iter().flatten() {
        Statistics::default().add(segment);
        written_again(segment);
        masked_anew(segment);
    }
});

fn stream(bytes: &[u8]) -> Segments {
    Segments::stream("fuzz", Box::new(Cursor::new(bytes.to_vec())))
}

fn one(bytes: &[u8]) -> Segment {
    let mut segments = stream(bytes);
    let one = segments.next().unwrap().unwrap();
    assert!(segments.next().is_none());
    one
}

/// Every sequence as a writer takes it.
fn sequences(segment: &Segment) -> Vec<Sequence> {
    let sequence = |i| {
        let view = segment.view(i);
        assert!(view.masked().all(|at| at < view.tokens.len()));
        assert_eq!(view.masked().count(), view.targets.len());
        Sequence {
            tokens: view.tokens.iter().collect(),
            words: (0..view.tokens.len()).map(|t| view.begins_word(t)).collect(),
            second: view.second.map(|second| second as u16),
            label: view.label.map(|label| segment.labels()[label].clone()),
            row: view.row,
        }
    };
    (0..segment.len()).map(sequence).collect()
}

fn texts(segment: &Segment) -> Vec<u64> {
    segment.texts().into_iter().flatten().collect()
}

fn written_again(segment: &Segment) {
    let writer = Writer::new(Vec::new(), segment.header().clone());
    let mut writer = writer.labels(segment.labels().to_vec());
    texts(segment).into_iter().for_each(|hash| writer.texts((hash, None)));
    sequences(segment).into_iter().for_each(|sequence| writer.push(sequence).unwrap());
    let again = one(&writer.finish().unwrap());
    assert_eq!(again.header(), segment.header());
    assert_eq!(sequences(&again), sequences(segment));
    assert_eq!(texts(&again), texts(segment));
}

/// Masks it in every way, and finds what was hidden in the targets.
fn masked_anew(segment: &Segment) {
    if segment.masked_by().is_some() {
        return;
    }
    for (unit, exact) in [(Unit::Token, true), (Unit::Word, false), (Unit::Span, true)] {
        let masking = Masking { prob: 0.5, unit, exact, ..Masking::default() };
        let by = MaskedBy { masking, seed: 1, epoch: 0, epochs: 1, draw: 0, draws: 1 };
        let Ok(masker) = Masker::new(&by, segment.header()) else { return };
        let mut bytes = Vec::new();
        write_masked(&mut bytes, segment, &masker, 0).unwrap();
        let masked = one(&bytes);
        assert_eq!(masked.masked_by(), Some(&by));
        let mut found = sequences(&masked);
        for (i, sequence) in found.iter_mut().enumerate() {
            let view = masked.view(i);
            view.masked().zip(view.targets.iter()).for_each(|(at, id)| sequence.tokens[at] = id);
        }
        assert_eq!(found, sequences(segment));
    }
}
