//! Segments in order: from a memory-mapped file, or from a pipe.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;

use super::outline::Outline;
use super::segment::{Bytes, Segment};

/// The segments of one shard, front to back.
pub struct Segments {
    name: String,
    source: Source,
    at: usize,
    failed: bool,
}

enum Source {
    Mapped(Arc<Mmap>),
    Stream(Box<dyn Read + Send>),
}

/// Opens a shard; `-` is standard input. A regular file is mapped, anything else is read as it comes.
pub fn segments(path: &Path) -> Result<Segments> {
    let name = path.display().to_string();
    if path == Path::new("-") {
        return Ok(Segments::stream("standard input", Box::new(io::stdin())));
    }
    let file = File::open(path).with_context(|| name.clone())?;
    let about = file.metadata().with_context(|| name.clone())?;
    ensure!(!about.is_dir(), "{name}: is a directory; a token shard is wanted");
    if !about.is_file() {
        return Ok(Segments::stream(&name, Box::new(file)));
    }
    ensure!(about.len() > 0, "{name}: empty; not a token shard");
    // SAFETY: shards are written beside and renamed, never changed in place.
    let map = unsafe { Mmap::map(&file) }.with_context(|| name.clone())?;
    Ok(Segments { name, source: Source::Mapped(Arc::new(map)), at: 0, failed: false })
}

impl Segments {
    /// Segments from any reader; `name` is what errors call it.
    pub fn stream(name: &str, reader: Box<dyn Read + Send>) -> Self {
        Self { name: name.to_owned(), source: Source::Stream(reader), at: 0, failed: false }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is all there, in a file: nothing of it need be held in memory.
    pub fn is_mapped(&self) -> bool {
        matches!(self.source, Source::Mapped(_))
    }

    fn read(&mut self) -> Result<Option<Segment>> {
        let at = self.at;
        let (bytes, data, layout) = match &mut self.source {
            Source::Mapped(map) if at == map.len() => return Ok(None),
            Source::Mapped(map) => {
                let rest = &map[at..];
                let head = rest.first_chunk().with_context(|| short(at))?;
                let json = rest.get(8..8 + Segment::header_len(*head)?).context(CUT)?;
                let (layout, len) = Segment::parse_header(json)?;
                let data = 8 + json.len();
                let end = data.checked_add(len).filter(|&end| end <= rest.len());
                let end = end.context(CUT)?;
                (Bytes::Mapped(map.clone(), at..at + end), data, layout)
            }
            Source::Stream(reader) => {
                let mut bytes = take(reader, 8)?;
                match bytes.len() {
                    0 if at > 0 => return Ok(None),
                    0 => bail!("empty; not a token shard"),
                    _ => {}
                }
                let head = bytes.first_chunk().with_context(|| short(at))?;
                let json = Segment::header_len(*head)?;
                extend(reader, &mut bytes, json)?;
                let (layout, len) = Segment::parse_header(&bytes[8..])?;
                extend(reader, &mut bytes, len)?;
                (Bytes::Owned(bytes), 8 + json, layout)
            }
        };
        self.at += bytes.as_ref().len();
        Segment::declared(bytes, data, &layout).map(Some)
    }

    /// The next segment: what its header says, and its first `n` sequences. Of a mapped file nothing more is read.
    pub fn outline(&mut self, n: usize) -> Option<Result<Outline>> {
        self.advance(|declared| Outline::new(declared, n))
    }

    fn advance<T>(&mut self, made: impl Fn(Segment) -> Result<T>) -> Option<Result<T>> {
        if self.failed {
            return None;
        }
        let at = self.at;
        let next = self.read().and_then(|declared| declared.map(made).transpose());
        let next = next.with_context(|| match at {
            0 => self.name.clone(),
            _ => format!("{}: segment at byte {at}", self.name),
        });
        self.failed = next.is_err();
        next.transpose()
    }
}

const CUT: &str = "it ends inside a segment: the program that wrote it was cut off";

/// What fewer than 8 bytes are, at the end of a shard or alone.
fn short(at: usize) -> &'static str {
    if at == 0 { "too short for a token shard" } else { CUT }
}

/// At most `len` bytes; the buffer grows with what arrives, not with what a header promises.
fn take(reader: &mut dyn Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn extend(reader: &mut dyn Read, bytes: &mut Vec<u8>, len: usize) -> Result<()> {
    let got = reader.take(len as u64).read_to_end(bytes)?;
    ensure!(got == len, CUT);
    Ok(())
}

impl Iterator for Segments {
    type Item = Result<Segment>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(|declared| {
            declared.check()?;
            Ok(declared)
        })
    }
}

/// An input that may be a shard or text.
pub enum Input {
    Shard(Segments),
    Text(Box<dyn BufRead + Send>),
}

/// Opens a shard or a text, whichever the first bytes say it is; `-` is standard input.
pub fn shard_or_text(path: &Path) -> Result<Input> {
    let mut reader: Box<dyn Read + Send> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path)?),
    };
    let head = head(&mut reader)?;
    let is_shard = head.len() == 9 && begins_shard(&head);
    if is_shard && path.is_file() {
        return Ok(Input::Shard(segments(path)?));
    }
    let whole = io::Cursor::new(head).chain(reader);
    Ok(match is_shard {
        true => Input::Shard(Segments::stream(&path.display().to_string(), Box::new(whole))),
        false => Input::Text(Box::new(io::BufReader::new(whole))),
    })
}

/// The first 9 bytes, or fewer that no shard begins with or that end a line: who writes a short one and waits is not
/// waited for.
fn head(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let (mut head, mut read) = ([0; 9], 0);
    let open = |head: &[u8]| begins_shard(head) && head.last() != Some(&b'\n');
    while read < head.len() && open(&head[..read]) {
        match reader.read(&mut head[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head[..read].to_vec())
}

/// Whether these, up to 9 bytes, can be the first of a shard: its header has at most 0x05F5E100 bytes, and begins with a
/// brace. No text has NULs there.
fn begins_shard(head: &[u8]) -> bool {
    let fits = |(at, &byte): (usize, &u8)| match at {
        0..3 => true,
        3 => byte <= 5,
        4..8 => byte == 0,
        _ => byte == b'{',
    };
    head.iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_by_its_first_bytes() {
        for text in ["rain\n and more", "a\nb\nc\n", "{\"text\": \"a\"}", "a\n", ""] {
            let head = head(&mut text.as_bytes()).unwrap();
            assert!(text.as_bytes().starts_with(&head));
            assert!(head.len() < 9 || !begins_shard(&head), "{text:?}");
        }
        let shard = [&2000u64.to_le_bytes()[..], b"{}"].concat();
        let head = head(&mut &shard[..]).unwrap();
        assert!(head.len() == 9 && begins_shard(&head));
    }

    #[test]
    fn who_writes_a_short_line_is_not_waited_for() {
        for line in ["a\n", "\n", "on\n"] {
            let (mut reader, mut writer) = io::pipe().unwrap();
            io::Write::write_all(&mut writer, line.as_bytes()).unwrap();
            assert_eq!(head(&mut reader).unwrap(), line.as_bytes());
        }
    }
}
