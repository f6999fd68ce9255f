//! What masks promise, whatever is masked: special tokens stay, words are whole, counts and shares are those asked
//! for, and a mask is a function of seed, epoch, draw and number.

use std::ops::Range;

use plain::shard::Unit;
use plain::shard::masking::Replace;

use super::*;

fn with(unit: Unit, exact: bool, prob: f64) -> MaskedBy {
    let masking = Masking { prob, unit, exact, ..Default::default() };
    MaskedBy { masking, ..by(1, 0, prob) }
}

fn any_masking() -> impl Strategy<Value = MaskedBy> {
    let unit = prop_oneof![Just(Unit::Token), Just(Unit::Word), Just(Unit::Span)];
    let prob = prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0];
    let replace = prop_oneof![Just([0.8, 0.1, 0.1]), Just([1.0, 0.0, 0.0]), Just([0.0, 0.5, 0.5])];
    let when = (any::<u64>(), any::<u64>(), 0..4u64);
    (unit, prob, replace, any::<bool>(), when).prop_map(
        |(unit, prob, replace, exact, (seed, epoch, draw))| MaskedBy {
            masking: Masking { prob, replace: Replace(replace), unit, exact },
            seed,
            epoch,
            epochs: 0,
            draw,
            draws: 4,
        },
    )
}

/// The words of a sequence by their meaning in the format, written down anew.
fn words(sequence: &Sequence) -> Vec<Range<usize>> {
    let maskable = |t: usize| sequence.tokens[t] >= SPECIAL;
    let goes_on = |t: usize| t > 0 && maskable(t - 1) && !sequence.words[t];
    let n = sequence.tokens.len();
    let begins = (0..n).filter(|&t| maskable(t) && !goes_on(t));
    begins.map(|t| t..(t + 1..n).find(|&u| !maskable(u) || !goes_on(u)).unwrap_or(n)).collect()
}

fn maskable(sequence: &Sequence) -> usize {
    sequence.tokens.iter().filter(|&&id| id >= SPECIAL).count()
}

/// Tokens that `--exact` asks for.
fn exactly(prob: f64, maskable: usize) -> usize {
    let least = usize::from(prob > 0.0 && maskable > 0);
    ((prob * maskable as f64).round() as usize).max(least)
}

proptest! {
    #[test]
    fn masks_can_be_undone((header, sequences) in shard(), by in any_masking()) {
        let plain = write(&header, &sequences);
        let masked = one(&masked(&plain, &by));
        prop_assert_eq!(masked.masked_by().unwrap(), &by);
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
    fn counts_are_those_asked_for_and_words_whole((header, sequences) in shard(), by in any_masking()) {
        let masked = one(&masked(&write(&header, &sequences), &by));
        let Masking { prob, unit, exact, .. } = by.masking;
        for (i, sequence) in sequences.iter().enumerate() {
            let at: Vec<usize> = masked.view(i).masked().collect();
            let (count, wanted) = (at.len(), exactly(prob, maskable(sequence)));
            let words = words(sequence);
            let hidden = |word: &Range<usize>| word.clone().filter(|t| at.contains(t)).count();
            if unit != Unit::Token {
                for word in &words {
                    prop_assert!([0, word.len()].contains(&hidden(word)), "{:?} of {:?}", word, at);
                }
            }
            if exact {
                prop_assert!(count <= wanted);
                let open = words.iter().filter(|word| hidden(word) == 0).map(Range::len).min();
                match unit {
                    Unit::Token => prop_assert_eq!(count, wanted),
                    _ => prop_assert!(open.is_none_or(|least| count + least > wanted), "a word was left that fits"),
                }
            }
            if prob == 0.0 || prob == 1.0 {
                prop_assert_eq!(count, if prob == 0.0 { 0 } else { maskable(sequence) });
            }
        }
    }

    #[test]
    fn a_sequence_alone_is_masked_as_in_the_stream((header, sequences) in shard(), by in any_masking()) {
        let plain = one(&write(&header, &sequences));
        let stream = one(&masked(plain.bytes(), &by));
        let masker = Masker::new(&by, &header).unwrap();
        for i in (0..plain.len()).rev() {
            let alone = masker.mask(&plain.view(i), i as u64);
            let view = stream.view(i);
            prop_assert_eq!(alone.tokens, view.tokens.iter().collect::<Vec<_>>());
            prop_assert_eq!(alone.targets, view.targets.iter().collect::<Vec<_>>());
            prop_assert_eq!(alone.masked, view.masked().map(|at| at as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn where_a_stream_is_cut_into_segments_does_not_matter(
        (header, sequences) in shard(),
        by in any_masking(),
        cut: prop::sample::Index,
    ) {
        let cut = cut.index(sequences.len() + 1);
        let (front, back) = sequences.split_at(cut);
        let parts = [write(&header, front), write(&header, back)].concat();
        let whole = write(&header, &sequences);
        let tokens = |bytes: &[u8]| all_contents(&read(&masked(bytes, &by)).unwrap());
        prop_assert_eq!(tokens(&parts), tokens(&whole));
    }
}

/// Sequences of 50 tokens in words of 1 to 3.
fn many(count: u32) -> Vec<Sequence> {
    let sequence = |i: u32| Sequence {
        tokens: (0..50).map(|t| (i * 31 + t * 7) % 1000).collect(),
        words: (0..50).map(|t| [0, 1, 3].contains(&((t + i) % 6))).collect(),
        row: i.into(),
        ..Sequence::default()
    };
    (0..count).map(sequence).collect()
}

/// Fails beyond five standard deviations: once in a million seeds, and the seed is fixed.
#[track_caller]
fn near(seen: f64, of: f64, share: f64, per: f64) {
    let spread = (share * (1.0 - share) * of * per).sqrt();
    assert!((seen - share * of).abs() < 5.0 * spread, "{seen} of {of}, not {share}");
}

#[test]
fn masks_come_at_their_rates() {
    let sequences = many(4000);
    let of: usize = sequences.iter().map(maskable).sum();
    let plain = write(&header(1000), &sequences);
    // The variance of a sum of words, or of spans, is at most that of tokens times the longest of them.
    let units = [(Unit::Token, 1.0), (Unit::Word, 3.0), (Unit::Span, 30.0)];
    for (unit, longest) in units {
        for exact in [false, true] {
            let segment = one(&masked(&plain, &with(unit, exact, 0.15)));
            let seen = fates(&segment);
            let count: f64 = seen.iter().sum();
            match exact {
                false => near(count, of as f64, 0.15, longest),
                true => {
                    let wanted: usize = sequences.iter().map(|s| exactly(0.15, maskable(s))).sum();
                    let least = if unit == Unit::Token { 1.0 } else { 0.99 };
                    assert!(count <= wanted as f64 && count >= least * wanted as f64, "{count}");
                }
            }
            for (share, seen) in [0.8, 0.1, 0.1].into_iter().zip(seen) {
                near(seen, count, share, longest);
            }
        }
    }
}

/// Masked tokens that show the mask, another token, and themselves.
fn fates(segment: &Segment) -> [f64; 3] {
    let mut seen = [0.0; 3];
    for i in 0..segment.len() {
        let view = segment.view(i);
        for (at, target) in view.masked().zip(view.targets.iter()) {
            let now = view.tokens.get(at);
            seen[if now == 4 {
                0
            } else if now == target {
                2
            } else {
                1
            }] += 1.0;
        }
    }
    seen
}

/// Where spans lie far apart, a run of masked words is one span: it has one fate, and its length is geometric.
#[test]
fn spans_have_one_fate_and_their_lengths() {
    let n = 50_000;
    let long = |i: u64| Sequence {
        tokens: (0..n).map(|t| 10 + t % 900).collect(),
        words: vec![true; n as usize],
        row: i,
        ..Sequence::default()
    };
    let plain = write(&header(1000), &(0..40).map(long).collect::<Vec<_>>());
    let segment = one(&masked(&plain, &with(Unit::Span, true, 0.002)));
    let (mut lengths, mut mixed) = ([0.0; 30], 0.0);
    for i in 0..segment.len() {
        let view = segment.view(i);
        let at: Vec<usize> = view.masked().collect();
        assert_eq!(at.len(), 100);
        for run in at.chunk_by(|a, b| a + 1 == *b) {
            let masks = run.iter().filter(|&&t| view.tokens.get(t) == 4).count();
            mixed += f64::from(u8::from(masks != 0 && masks != run.len()));
            lengths[run.len()] += 1.0;
        }
    }
    let runs: f64 = lengths.iter().sum();
    // Spans meet by chance, and a random token may be the mask: both are rare.
    assert!(mixed < 0.01 * runs, "{mixed} of {runs} runs have more than one fate");
    let whole = 1.0 - 0.8f64.powi(10);
    (1..=10).for_each(|words| {
        near(lengths[words as usize], runs, 0.2 * 0.8f64.powi(words - 1) / whole, 1.0);
    });
    assert!((40.0 * 100.0 / runs - 3.8).abs() < 0.3, "{runs} runs");
}

#[test]
fn masks_depend_on_seed_epoch_and_draw_alone() {
    let plain = write(&header(1000), &many(300));
    for unit in [Unit::Token, Unit::Word, Unit::Span] {
        for exact in [false, true] {
            let base = with(unit, exact, 0.15);
            let tokens = |by: &MaskedBy| contents(&one(&masked(&plain, by)));
            let others = [
                MaskedBy { seed: 2, ..base.clone() },
                MaskedBy { epoch: 1, ..base.clone() },
                MaskedBy { draw: 1, ..base.clone() },
            ];
            others.iter().for_each(|other| assert_ne!(tokens(other), tokens(&base)));
            let bytes = masked(&plain, &base);
            for threads in [1, 2, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert!(pool.install(|| masked(&plain, &base)) == bytes);
            }
        }
    }
}

/// Shards of before there were `exact`, `draw` and `draws`.
#[test]
fn masked_shards_without_the_later_keys_are_read() {
    let bytes = masked(&write(&header(1000), &many(3)), &by(7, 2, 0.15));
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let about = json["__metadata__"].as_object_mut().unwrap();
    ["exact", "draw", "draws"].iter().for_each(|key| assert!(about.remove(*key).is_some()));
    let json = json.to_string();
    let old = [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &bytes[8 + length..]].concat();
    assert_eq!(one(&old).masked_by(), Some(&by(7, 2, 0.15)));
}
