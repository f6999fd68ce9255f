//! What several targets do: give bytes a path, and change safetensors files so that their headers can still be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzzer_mutate;
use serde::de::IgnoredAny;
use tempfile::TempDir;

/// A folder of this process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// A file of this name with these bytes; the next of the same name takes its place.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Changes a file, and mostly mends the length of its header: chance alone would hardly ever get past that.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let size = fuzzer_mutate(data, size, max_size);
    if let Some((length, rest)) = data[..size].split_first_chunk_mut()
        && seed % 4 > 0
    {
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        if let Some(Ok(_)) = values.next() {
            *length = (values.byte_offset() as u64).to_le_bytes();
        }
    }
    size
}
