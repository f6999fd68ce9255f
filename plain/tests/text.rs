//! Texts to sequences: windows cover, chunks and joined sequences lose nothing.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::OnceLock;

use plain::shard::Sequence;
use plain::text::{self, Cut, Encoded, Kind, Packer, Tokenizer};
use proptest::prelude::*;

fn trained(kind: Kind) -> &'static Path {
    static DIRS: OnceLock<[tempfile::TempDir; 2]> = OnceLock::new();
    let dirs = DIRS.get_or_init(|| {
        [Kind::Bpe, Kind::Wordpiece].map(|kind| {
            let dir = tempfile::tempdir().unwrap();
            let texts = ["the cat sat on the mat", "cats and dogs, mats and logs", "ü ß 中 42"];
            let texts = texts.repeat(20).into_iter().map(|text| Ok(text.to_owned()));
            text::train(kind, 300, texts, dir.path()).unwrap();
            dir
        })
    });
    dirs[usize::from(kind == Kind::Wordpiece)].path()
}

fn tokenizer(kind: Kind, length: u32, cut: Cut) -> Tokenizer {
    let mut tokenizer = Tokenizer::open(trained(kind)).unwrap();
    tokenizer.cut(length, cut).unwrap();
    tokenizer
}

/// A text without special tokens, whole.
fn body(kind: Kind, text: &str) -> Encoded {
    let whole = tokenizer(kind, 60_000, Cut::Off).encode((text, None)).unwrap();
    let end = whole.tokens.len() - 1;
    Encoded { tokens: whole.tokens[1..end].to_vec(), words: whole.words[1..end].to_vec(), ..whole }
}

fn inner(piece: &Encoded) -> &[u32] {
    &piece.tokens[1..piece.tokens.len() - 1]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Bpe), Just(Kind::Wordpiece)]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-dmost ,.]{0,80}",
        "\\PC{0,40}",
        "(cats? |the |mats and |xyzzyxyzzyxyzzy ){0,12}"
    ]
}

fn joined(kind: Kind, length: u32, texts: &[String]) -> Vec<Sequence> {
    let tokenizer = tokenizer(kind, length, Cut::Whole);
    let mut packer = Packer::new(&tokenizer);
    let mut all = Vec::new();
    for (row, text) in texts.iter().enumerate() {
        let pieces = tokenizer.pieces((text, None)).unwrap();
        all.extend(packer.add((text, None), pieces, None, row as u64).unwrap());
    }
    all.extend(packer.rest());
    all
}

proptest! {
    #[test]
    fn chunks_are_the_text_and_break_between_words(kind in kinds(), text in texts(), length in 5..20u32) {
        let whole = body(kind, &text);
        let chunks = tokenizer(kind, length, Cut::Chunks).pieces((&text, None)).unwrap();
        prop_assert_eq!(chunks.iter().flat_map(inner).copied().collect::<Vec<_>>(), &whole.tokens[..]);
        let room = length as usize - 2;
        let mut at = 0;
        for chunk in &chunks {
            prop_assert!(chunk.tokens.len() <= length as usize);
            prop_assert!(!inner(chunk).is_empty() || chunks.len() == 1);
            if at > 0 && !whole.words[at] {
                let word = whole.words[..at].iter().rposition(|begins| *begins).unwrap();
                let after = whole.words[at..].iter().position(|begins| *begins);
                let end = after.map_or(whole.words.len(), |after| at + after);
                prop_assert!(end - word > room, "a word of {} tokens is broken", end - word);
            }
            let begins = &chunk.words[1..chunk.words.len() - 1];
            for (k, begins) in begins.iter().enumerate() {
                prop_assert_eq!(*begins, k == 0 || whole.words[at + k]);
            }
            prop_assert!(chunk.words[0] && chunk.words[chunk.words.len() - 1]);
            at += begins.len();
        }
    }

    #[test]
    fn windows_cover_the_text_and_repeat_the_stride(
        kind in kinds(), text in texts(), length in 6..20u32, share in 0..100u32,
    ) {
        let (whole, room) = (body(kind, &text), length as usize - 2);
        let stride = share as usize * room / 100;
        let cut = Cut::Windows(stride as u32);
        let windows = tokenizer(kind, length, cut).pieces((&text, None)).unwrap();
        let mut at = 0;
        for (i, window) in windows.iter().enumerate() {
            let tokens = inner(window);
            prop_assert_eq!(tokens, &whole.tokens[at..at + tokens.len()]);
            let is_last = i + 1 == windows.len();
            prop_assert!(is_last || tokens.len() == room);
            prop_assert!(!is_last || at + tokens.len() == whole.tokens.len());
            at += tokens.len() - if is_last { 0 } else { stride };
        }
    }

    #[test]
    fn windows_of_pairs_cover_the_longer_text(
        kind in kinds(), text in texts(), pair in texts(), length in 9..24u32, share in 0..100u32,
    ) {
        let tokenizer_of = |cut| tokenizer(kind, length, cut);
        let whole = tokenizer(kind, 60_000, Cut::Off).encode((&text, Some(&pair))).unwrap();
        let special = body(kind, &text).tokens.len() + body(kind, &pair).tokens.len();
        let room = length as usize - (whole.tokens.len() - special);
        let stride = share as usize * room / 100;
        let windows = tokenizer_of(Cut::Windows(stride as u32)).pieces((&text, Some(&pair))).unwrap();
        let (first, second) = (body(kind, &text).tokens, body(kind, &pair).tokens);
        let first_is_longer = first.len() > second.len();
        let long = if first_is_longer { &first } else { &second };
        let mut seen = Vec::new();
        for window in &windows {
            prop_assert!(window.tokens.len() <= length as usize);
            let at = usize::from(window.second.unwrap());
            let between = whole.tokens.len() - special - 2;
            let part = match first_is_longer {
                true => &window.tokens[1..at - between],
                false => &window.tokens[at..window.tokens.len() - 1],
            };
            let part: &[u32] = if long.is_empty() { &[] } else { part };
            let repeated = if seen.is_empty() { 0 } else { stride };
            prop_assert_eq!(&seen[seen.len() - repeated..], &part[..repeated]);
            seen.extend_from_slice(&part[repeated..]);
        }
        prop_assert_eq!(&seen, long);
    }

    #[test]
    fn joined_sequences_are_all_texts_with_a_separator_between(
        kind in kinds(), texts in prop::collection::vec(texts(), 0..6), length in 5..40u32,
    ) {
        let bodies: Vec<Vec<u32>> = texts.iter().map(|text| body(kind, text).tokens).collect();
        let separator = tokenizer(kind, length, Cut::Off).special().sep;
        let mut rest = bodies.iter().enumerate().filter(|(_, body)| !body.is_empty());
        let (mut row, mut left): (usize, &[u32]) = (0, &[]);
        for sequence in joined(kind, length, &texts) {
            prop_assert!(sequence.tokens.len() <= length as usize);
            let mut tokens = &sequence.tokens[1..sequence.tokens.len() - 1];
            prop_assert!(!tokens.is_empty());
            let mut first = true;
            while !tokens.is_empty() {
                if left.is_empty() {
                    if !first {
                        prop_assert_eq!(tokens[0], separator);
                        tokens = &tokens[1..];
                    }
                    let (next, body) = rest.next().unwrap();
                    (row, left) = (next, body);
                }
                prop_assert!(!first || sequence.row == row as u64);
                first = false;
                let part = tokens.len().min(left.len());
                prop_assert_eq!(&tokens[..part], &left[..part]);
                (tokens, left) = (&tokens[part..], &left[part..]);
            }
        }
        prop_assert!(left.is_empty() && rest.next().is_none());
    }
}

#[test]
fn joined_sequences_are_filled() {
    let texts = vec!["the cat sat on the mat".to_owned(); 50];
    let sequences = joined(Kind::Bpe, 16, &texts);
    let (last, whole) = sequences.split_last().unwrap();
    assert!(whole.iter().all(|sequence| sequence.tokens.len() > 12), "{last:?}");
}

#[test]
fn a_stride_must_leave_room() {
    for kind in [Kind::Bpe, Kind::Wordpiece] {
        let mut tokenizer = Tokenizer::open(trained(kind)).unwrap();
        assert!(tokenizer.cut(16, Cut::Windows(13)).is_ok());
        let refused = tokenizer.cut(16, Cut::Windows(14)).unwrap_err().to_string();
        assert!(refused.contains("below 14"), "{refused}");
        tokenizer.cut(16, Cut::Windows(13)).unwrap();
        assert!(tokenizer.pieces(("the cat", Some("sat"))).is_err());
    }
}
