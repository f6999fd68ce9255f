//! Any bytes as a safetensors file: an error, or what every other reader of it would say.
#![no_main]

use std::path::Path;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use plain::peek::{Look, peek};
use plain::shard::{Layout, Manifest};
use safetensors::SafeTensors;
use tapt::checkpoint::read_tensors;

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    fuzz::mutate(data, size, max, seed)
});

fuzz_target!(|bytes: &[u8]| {
    let path = fuzz::file("model.safetensors", bytes);
    if let Ok(layout) = Layout::open(&path)
        && !layout.is_shard()
    {
        let names = SafeTensors::deserialize(bytes).unwrap().names().len();
        assert_eq!(layout.header.tensors().len(), names);
    }
    for (n, stats) in [(2, false), (1, true)] {
        shown(&path, &Look { n, stats, digest: stats, tokenizer: None });
    }
    if let Ok(texts) = Manifest::from_bytes(bytes) {
        assert_eq!(Manifest::from_bytes(&texts.to_bytes().unwrap()).unwrap(), texts);
    }
    let _ = read_tensors(&path);
});

fn shown(path: &Path, look: &Look) {
    let mut out = Vec::new();
    if peek(path, look, &mut out).is_ok() {
        for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
    }
}
