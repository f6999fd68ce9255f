//! TensorBoard's event files: what its SCALARS page shows of a run.
//!
//! A file is records of TFRecord (length, its checksum, bytes, theirs), each an `Event` of TensorFlow's protocol buffers
//! (tensorflow/core/util/event.proto, framework/summary.proto), of which scalars need six fields. Of the crates that write
//! them, `tensorboard-rs` panics where a file cannot be written and brings images along, `tboard` wants `protoc` to be
//! built; both stand on releases of protobuf and prost that are years old.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::Value;

/// An event file, open for writing. Each process has its own; TensorBoard reads those of a directory as one, and of a
/// step written again the last.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins a file in `dir`, which is made if it is not there.
    pub fn open(dir: &Path) -> Result<Self> {
        let now = since_epoch();
        // TensorBoard takes files in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{}.tapt", now.as_secs(), process::id());
        let path = dir.join(name);
        let file = fs::create_dir_all(dir).and_then(|()| File::create(&path));
        let file = file.with_context(|| format!("--tensorboard {}", path.display()))?;
        let mut events = Self { file, path };
        let version = field(3, b"brain.Event:2");
        events.record(&[time(now), version].concat())?;
        Ok(events)
    }

    /// Writes what an event of a log has of scalars: of a `step` `train/loss` and the like, of an `eval` its scores as
    /// `eval/accuracy`, of a `guard` `guard/nats`. Any other has none.
    pub fn write(&mut self, event: &Value) -> Result<()> {
        let (group, numbers): (&str, &Value) = match event["event"].as_str() {
            Some("step") => ("train", event),
            Some("eval") => ("eval", &event["scores"]),
            Some("guard") => ("guard", event),
            _ => return Ok(()),
        };
        let values = numbers.as_object().into_iter().flatten();
        let shown =
            values.filter(|(key, _)| !["event", "step", "tokens", "seconds"].contains(&&***key));
        let scalars = shown.filter_map(|(key, value)| Some((key, value.as_f64()?)));
        let summary: Vec<u8> = scalars
            .flat_map(|(key, value)| field(1, &scalar(&format!("{group}/{key}"), value)))
            .collect();
        let step = varint(event["step"].as_u64().unwrap_or(0));
        self.record(
            &[time(since_epoch()), [vec![2 << 3], step].concat(), field(5, &summary)].concat(),
        )
    }

    /// A record, in one write: who reads along sees it whole or not at all.
    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let record = [&length[..], &checksum(&length), data, &checksum(data)].concat();
        self.file.write_all(&record).with_context(|| self.path.display().to_string())
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// `Event.wall_time`, a double.
fn time(at: Duration) -> Vec<u8> {
    [&[1 << 3 | 1][..], &at.as_secs_f64().to_le_bytes()].concat()
}

/// `Summary.Value` with its `tag` and `simple_value`, a float.
fn scalar(tag: &str, value: f64) -> Vec<u8> {
    [&field(1, tag.as_bytes())[..], &[2 << 3 | 5], &(value as f32).to_le_bytes()].concat()
}

/// A field of so many bytes: text, or another message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// CRC-32C, turned and moved as TFRecord has it.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_checksums() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(127), [127]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(u64::MAX).len(), 10);
        // RFC 3720, B.4: 32 bytes of zeros give 8a9136aa.
        let turned = 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(checksum(&[0; 32]), turned.to_le_bytes());
    }

    #[test]
    fn a_scalar_is_its_tag_and_its_float() {
        assert_eq!(scalar("a/b", 1.0), [0x0a, 3, b'a', b'/', b'b', 0x15, 0, 0, 0x80, 0x3f]);
    }

    #[test]
    fn events_without_scalars_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::open(dir.path()).unwrap();
        let length = |events: &EventFile| events.file.metadata().unwrap().len();
        let before = length(&events);
        for kind in ["run", "save", "resume", "leap", "skip", "done"] {
            events.write(&json!({"event": kind, "step": 3, "loss": 1.0})).unwrap();
        }
        assert_eq!(length(&events), before);
        events.write(&json!({"event": "step", "step": 3, "loss": null, "lr": 0.1})).unwrap();
        // Frame 16, time 9, step 2, summary 2 + (2 + value (2 + 8 + 5)): the loss is no number.
        assert_eq!(length(&events), before + 16 + 9 + 2 + 2 + 2 + 15);
    }
}
