//! Looking into files: all kinds are told apart, no more is read than wanted, and nothing whatever in a file makes
//! `peek` panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use plain::peek::{Look, peek};
use plain::shard::{MaskedBy, Masker, Masking, Unit, Writer, segments, write_masked};
use plain::text::{Kind, Tokenizer, train};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tempfile::TempDir;

const TEXTS: [&str; 4] =
    ["rain falls on the hill", "the cup went home", "wind and rain by night", "hills"];

/// A directory with a file of each kind that tapt writes.
struct Files {
    dir: TempDir,
    all: Vec<&'static str>,
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let texts = TEXTS.repeat(9).into_iter().map(|text| Ok(text.to_owned()));
        train(Kind::Wordpiece, 90, texts, &at("tok")).unwrap();
        shards(&at("tok"), &at("a.tok"), &at("a.bin"));
        let four = [4usize; 1];
        let weights: [(&str, &str, &[usize]); 2] =
            [("bert.x.weight", "F32", &[4, 4]), ("bert.x.bias", "F16", &four)];
        for (name, file) in [("model", "model"), ("adapter", "adapter_model")] {
            fs::create_dir(at(name)).unwrap();
            let about = json!({"format": "pt"});
            fs::write(at(name).join(format!("{file}.safetensors")), blob(about, &weights)).unwrap();
        }
        fs::write(at("model/config.json"), r#"{"model_type":"bert"}"#).unwrap();
        fs::write(at("adapter/adapter_config.json"), r#"{"peft_type":"LORA"}"#).unwrap();
        let pt = || json!({"format": "pt"});
        let vectors = [("embeddings", "F32", &[3usize, 2][..]), ("rows", "U64", &[3])];
        fs::write(at("vectors"), blob(pt(), &vectors)).unwrap();
        let tokens = [
            ("embeddings", "F32", &[5usize, 2, 2][..]),
            ("offsets", "U64", &[3]),
            ("rows", "U64", &[2]),
        ];
        let mut bytes = blob(pt(), &tokens);
        let end = bytes.len() - 2 * 8;
        bytes[end - 16..end]
            .copy_from_slice(&[[2, 0, 0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 0]].concat());
        fs::write(at("tokens"), bytes).unwrap();
        let state = json!({"state": "{\"step\":3}"});
        fs::write(at("state"), blob(state, &[("parameter.x", "F32", &[2])])).unwrap();
        let all = vec![
            "a.tok",
            "a.bin",
            "model/model.safetensors",
            "adapter/adapter_model.safetensors",
            "vectors",
            "tokens",
            "state",
        ];
        Files { dir, all }
    })
}

/// Two segments each, so that there is a second to damage.
fn shards(tokenizer: &Path, plain: &Path, masked: &Path) {
    let tokenizer = Tokenizer::open(tokenizer).unwrap();
    let (mut bytes, mut hidden) = (Vec::new(), Vec::new());
    for half in TEXTS.chunks(2) {
        let mut writer = Writer::new(Vec::new(), tokenizer.header(json!({}), "prep".into()));
        for (row, text) in half.iter().enumerate() {
            let encoded = tokenizer.encode((text, Some("rain"))).unwrap();
            writer.push(encoded.into_sequence(Some("a".into()), row as u64)).unwrap();
        }
        bytes.extend(writer.finish().unwrap());
    }
    fs::write(plain, &bytes).unwrap();
    let masking = Masking { prob: 0.4, unit: Unit::Word, ..Default::default() };
    let by = MaskedBy { masking, seed: 1, epoch: 0, epochs: 1, draw: 0, draws: 1 };
    for segment in segments(plain).unwrap() {
        let segment = segment.unwrap();
        let masker = Masker::new(&by, segment.header()).unwrap();
        write_masked(&mut hidden, &segment, &masker, 0).unwrap();
    }
    fs::write(masked, hidden).unwrap();
}

/// A header for tensors of these names, dtypes and shapes.
fn header(about: &Value, tensors: &[(&str, &str, &[usize])]) -> (Vec<u8>, usize) {
    let mut header = BTreeMap::from([("__metadata__", about.clone())]);
    let mut at = 0;
    for (name, dtype, shape) in tensors {
        let bits: usize = dtype[1..].parse().unwrap();
        let end = at + shape.iter().product::<usize>() * bits / 8;
        header.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let json = serde_json::to_vec(&header).unwrap();
    ([&(json.len() as u64).to_le_bytes()[..], &json].concat(), at)
}

/// A safetensors file of zeros.
fn blob(about: Value, tensors: &[(&str, &str, &[usize])]) -> Vec<u8> {
    let (mut bytes, data) = header(&about, tensors);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn lines(path: &Path, look: &Look) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    peek(path, look, &mut out)?;
    let text = String::from_utf8(out).unwrap();
    Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn look(n: usize) -> Look {
    Look { n, ..Look::default() }
}

#[test]
fn kinds_are_told_apart() {
    let files = files();
    let kinds = ["tokens", "masked", "checkpoint", "adapter", "vectors", "vectors", "state"];
    for (name, kind) in files.all.iter().zip(kinds) {
        let lines = lines(&files.dir.path().join(name), &look(1)).unwrap();
        assert_eq!(lines[0]["kind"], kind, "{name}");
    }
    let first = |name: &str| lines(&files.dir.path().join(name), &look(1)).unwrap().swap_remove(0);
    assert_eq!(first("model")["config"]["model_type"], "bert");
    assert_eq!(first("adapter")["config"]["peft_type"], "LORA");
}

#[test]
fn vectors_are_shown_as_embed_writes_them() {
    let file = |name: &str| files().dir.path().join(name);
    let whole = lines(&file("vectors"), &look(2)).unwrap();
    assert_eq!(whole[0]["texts"], 3);
    assert_eq!(whole[3..], vec![json!({"row": 0, "embedding": [0.0, 0.0]}); 2]);
    let tokens = lines(&file("tokens"), &look(9)).unwrap();
    let lengths = tokens[4..].iter().map(|line| line["embedding"].as_array().unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [2, 3]);
    assert_eq!(tokens[4]["embedding"][0], json!([[0.0, 0.0], [0.0, 0.0]]));
}

/// Where there are no vectors, a shape may be of any width.
#[test]
fn vectors_wider_than_can_be_counted_are_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [
        ("embeddings", "F32", &[0, 1 << 62, 3][..]),
        ("offsets", "U64", &[2]),
        ("rows", "U64", &[1]),
    ];
    fs::write(dir.path().join("v"), blob(json!({}), &tensors)).unwrap();
    assert_eq!(lines(&dir.path().join("v"), &look(2)).unwrap()[0]["kind"], "tensors");
}

/// Files of a terabyte of nothing: read whole, they would not end.
#[test]
fn large_files_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = |name: &str, (head, data): (Vec<u8>, usize)| -> (PathBuf, File, u64) {
        let path = dir.path().join(name);
        fs::write(&path, &head).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(head.len() as u64 + data as u64).unwrap();
        (path, file, head.len() as u64)
    };
    let big = 1usize << 38;
    let model = header(&json!({"format": "pt"}), &[("bert.x", "F32", &[big])]);
    let (path, ..) = sparse("model.safetensors", model);
    assert_eq!(lines(&path, &look(2)).unwrap()[0]["values"], big);
    let vectors = [("embeddings", "F32", &[big / 8, 8][..]), ("rows", "U64", &[big / 8])];
    let (path, ..) = sparse("vectors", header(&json!({}), &vectors));
    assert_eq!(lines(&path, &look(2)).unwrap().len(), 5);

    let a = segments(&files().dir.path().join("a.bin")).unwrap().next().unwrap().unwrap();
    let length = u64::from_le_bytes(a.bytes()[..8].try_into().unwrap()) as usize;
    let about: Value = serde_json::from_slice(&a.bytes()[8..8 + length]).unwrap();
    let shard: [(&str, &str, &[usize]); 8] = [
        ("offsets", "U64", &[big / 64 + 1]),
        ("rows", "U64", &[big / 64]),
        ("labels", "I64", &[big / 64]),
        ("masked", "U32", &[big / 8]),
        ("tokens", "U16", &[big]),
        ("targets", "U16", &[big / 8]),
        ("second", "U16", &[big / 64]),
        ("words", "U8", &[big / 8]),
    ];
    let (path, file, data) = sparse("a.bin", header(&about["__metadata__"], &shard));
    // Two sequences of 5 tokens; of the first, tokens 1 and 3 are masked.
    [5u64, 10].iter().zip(1..).for_each(|(end, i)| {
        file.write_all_at(&end.to_le_bytes(), data + 8 * i).unwrap();
    });
    let masked = data + 8 * (3 * (big as u64 / 64) + 1);
    [1u32, 3, 12].iter().zip(0..).for_each(|(at, i)| {
        file.write_all_at(&at.to_le_bytes(), masked + 4 * i).unwrap();
    });
    let seen = lines(&path, &look(2)).unwrap();
    assert_eq!(seen[0]["tokens"], big);
    assert_eq!(seen[1]["masked"], json!([1, 3]));
    assert_eq!(seen[2]["masked"], json!([]));
    let error = format!("{:#}", lines(&path, &look(3)).unwrap_err());
    assert!(error.contains("tensor `offsets`: entry 3"), "{error}");
}

/// What `peek` shows of a few records is what it shows of them where it checks the whole.
#[test]
fn a_few_records_are_those_of_the_whole() {
    for name in ["a.tok", "a.bin"] {
        let path = files().dir.path().join(name);
        let tokenizer = Some(files().dir.path().join("tok"));
        for n in 0..3 {
            let short =
                lines(&path, &Look { n, tokenizer: tokenizer.clone(), ..Look::default() }).unwrap();
            let whole = Look { n, tokenizer: tokenizer.clone(), stats: true, digest: true };
            let mut whole = lines(&path, &whole).unwrap();
            let last = whole.pop().unwrap();
            assert_eq!(short, whole);
            assert_eq!((&last["segments"], &last["stats"]["sequences"]), (&json!(2), &json!(4)));
        }
    }
}

#[test]
fn masks_are_counted() {
    let path = files().dir.path().join("a.bin");
    let look = Look { n: 9, stats: true, ..Look::default() };
    let mut seen = lines(&path, &look).unwrap();
    let stats = seen.pop().unwrap()["stats"].take();
    let masked: usize = seen.iter().filter_map(|line| Some(line["masked"].as_array()?.len())).sum();
    let masks = &stats["masks"];
    assert_eq!(masks["masked"], masked);
    assert_eq!(masks["words"]["part"], 0);
    let shown = masks["shown"].as_object().unwrap().values().map(|share| share.as_f64().unwrap());
    assert!((shown.sum::<f64>() - 1.0).abs() < 1e-9);
    let runs = masks["runs"]["lengths"].as_object().unwrap();
    let total: u64 =
        runs.iter().map(|(n, count)| n.parse::<u64>().unwrap() * count.as_u64().unwrap()).sum();
    assert_eq!(total, masked as u64);
    let maskable = stats["tokens"].as_u64().unwrap() - stats["special"].as_u64().unwrap();
    assert!((masks["share"].as_f64().unwrap() - masked as f64 / maskable as f64).abs() < 1e-9);
}

/// A change to a file: bytes turned, a number of its header replaced, a piece cut out or put in, its end cut off.
#[derive(Debug, Clone)]
enum Damage {
    Turn(Index, u8),
    TurnHeader(Index, u8),
    Number(Index, String),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let number = prop_oneof![
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("1e9".to_owned()),
        Just(u64::MAX.to_string()),
        Just((1u64 << 40).to_string()),
        (0..40u32).prop_map(|n| n.to_string()),
    ];
    prop_oneof![
        (at(), 1u8..).prop_map(|(at, by)| Damage::Turn(at, by)),
        (at(), 1u8..).prop_map(|(at, by)| Damage::TurnHeader(at, by)),
        (at(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        (at(), 1..20usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        at().prop_map(Damage::Cut),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    if bytes.len() < 16 {
        return;
    }
    match damage {
        Damage::Turn(at, by) => *at.get_mut(bytes) ^= by,
        Damage::TurnHeader(at, by) => {
            let end = bytes.len().min(1200);
            bytes[at.index(end)] ^= by;
        }
        Damage::Number(at, number) => replace_number(bytes, at, number),
        Damage::Remove(at, n) => {
            let from = at.index(bytes.len());
            bytes.drain(from..bytes.len().min(from + n));
        }
        Damage::Insert(at, more) => {
            let from = at.index(bytes.len());
            bytes.splice(from..from, more.iter().copied());
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
    }
}

/// Replaces one number of the first header, and mends the header's length, so that what reads it gets further.
fn replace_number(bytes: &mut Vec<u8>, at: &Index, number: &str) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let Some(end) = usize::try_from(length).ok().and_then(|n| n.checked_add(8)) else { return };
    let Some(json) = bytes.get(8..end) else { return };
    let digit = |i: &usize| json[*i].is_ascii_digit();
    let begins: Vec<usize> = (1..json.len()).filter(|i| digit(i) && !digit(&(i - 1))).collect();
    if begins.is_empty() {
        return;
    }
    let from = *at.get(&begins);
    let to = (from..json.len()).find(|i| !digit(i)).unwrap_or(json.len());
    bytes.splice(8 + from..8 + to, number.bytes());
    let length = (end - 8 + number.len() + from - to) as u64;
    bytes[..8].copy_from_slice(&length.to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damage_is_an_error_or_harmless(
        which in any::<Index>(),
        damages in vec(damage(), 1..4),
        n in 0..4usize,
        stats: bool,
        decode: bool,
    ) {
        let files = files();
        let name = which.get(&files.all);
        let mut bytes = fs::read(files.dir.path().join(name)).unwrap();
        damages.iter().for_each(|damage| apply(damage, &mut bytes));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(Path::new(name).file_name().unwrap());
        fs::write(&path, &bytes).unwrap();
        let is_shard = name.starts_with("a.");
        let tokenizer = (decode && is_shard).then(|| files.dir.path().join("tok"));
        let look = Look { n, tokenizer, stats: stats && is_shard, digest: true };
        if let Err(error) = lines(&path, &look) {
            let error = format!("{error:#}");
            prop_assert!(error.contains(path.to_str().unwrap()), "{:?} does not name the file", error);
        }
    }

    #[test]
    fn any_bytes_are_an_error(bytes in vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("any"), bytes).unwrap();
        prop_assert!(lines(&dir.path().join("any"), &look(2)).is_err());
    }

    #[test]
    fn any_config_is_an_error_or_shown(config in vec(any::<u8>(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(files().dir.path().join("model/model.safetensors"), dir.path().join("model.safetensors")).unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        if let Err(error) = lines(dir.path(), &look(2)) {
            let error = format!("{error:#}");
            prop_assert!(error.contains("config.json: not a config"), "{}", error);
        }
    }
}
