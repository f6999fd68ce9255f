//! Bytes set aside on disk.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

/// Bytes in a nameless temporary file, until it is known what has to come before them.
pub struct Spool(BufWriter<File>);

impl Spool {
    pub fn new() -> io::Result<Self> {
        tempfile::tempfile().map(BufWriter::new).map(Self).map_err(named)
    }

    /// Copies all of them, from the first.
    pub fn copy_to(self, out: &mut impl Write) -> io::Result<()> {
        let mut file = self.0.into_inner().map_err(|error| named(error.into_error()))?;
        file.rewind().map_err(named)?;
        io::copy(&mut file, out).map(drop)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("a temporary file (TMPDIR says where): {error}"))
}
