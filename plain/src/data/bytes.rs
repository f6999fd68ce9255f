use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::read::is_stdin;

pub type Bytes = Box<dyn Read + Send>;

/// Bytes looked at to tell what a stream holds.
const HEAD: u64 = 4096;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Of a Zstandard frame, RFC 8878, section 3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const PARQUET: &[u8; 4] = b"PAR1";
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The largest window `zstd --long=31` writes.
const WINDOW_LOG: u32 = 31;

/// The decompressed bytes of a file without a byte order mark, and what their beginning tells.
pub struct Source {
    pub input: BufReader<Bytes>,
    /// Whether the first byte that is not white space is `{`.
    pub braced: bool,
    /// Whether the first line ends in CR LF.
    pub crlf: bool,
    pub parquet: bool,
}

impl Source {
    /// Opens `path`, `-` being standard input. Compression is told by the first bytes, whatever the name.
    pub fn open(path: &Path) -> io::Result<Self> {
        let raw: Bytes =
            if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let (mut head, plain) = peek(decompressed(raw)?)?;
        if head.starts_with(&BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        let braced = head.trim_ascii_start().starts_with(b"{");
        let crlf = head.split(|byte| *byte == b'\n').next().is_some_and(|l| l.ends_with(b"\r"));
        let parquet = head.starts_with(PARQUET);
        let input = Box::new(Cursor::new(head).chain(plain));
        Ok(Self { input: BufReader::with_capacity(1 << 18, input), braced, crlf, parquet })
    }
}

fn decompressed(raw: Bytes) -> io::Result<Bytes> {
    let (head, raw) = peek(raw)?;
    let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let raw: Bytes = Box::new(Cursor::new(head).chain(raw));
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(BufReader::new(raw))),
        (_, true) => {
            let mut decoder = zstd::Decoder::new(raw)?;
            decoder.window_log_max(WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => raw,
    })
}

/// Takes the first few bytes off a stream.
fn peek(mut input: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head)?;
    Ok((head, input))
}
