//! Where data goes: standard output, or a file written beside and renamed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::NamedTempFile;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 16;

use super::Hint;

/// A stream for data. A file appears under its name only when `commit` is called.
pub enum Output {
    Stdout(BufWriter<Stdout>),
    /// A pipe or a device: there is nothing to rename.
    Special(BufWriter<File>),
    File(BufWriter<NamedTempFile>, PathBuf),
}

/// Opens `path` for writing; nothing or `-` is standard output, refused for binary data if it is a terminal.
pub fn output(path: Option<&Path>) -> Result<Output> {
    match path.filter(|path| *path != Path::new("-")) {
        None if io::stdout().is_terminal() => Err(anyhow!("standard output: is a terminal")
            .context(Hint(
                "binary data: redirect it (> FILE) or pipe it on (| mask, | peek)".into(),
            ))),
        None => Ok(Output::Stdout(BufWriter::with_capacity(BUFFER, io::stdout()))),
        Some(path) => open(path).with_context(|| format!("{}: cannot be written", path.display())),
    }
}

fn open(path: &Path) -> Result<Output> {
    let about = path.metadata().ok();
    ensure!(!about.as_ref().is_some_and(|about| about.is_dir()), "is a directory");
    // A rename would put a file in the place of /dev/null.
    if about.is_some_and(|about| !about.is_file()) {
        let file = OpenOptions::new().write(true).open(path)?;
        return Ok(Output::Special(BufWriter::with_capacity(BUFFER, file)));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let file = beside(dir.unwrap_or(Path::new(".")))?;
    Ok(Output::File(BufWriter::with_capacity(BUFFER, file), path.to_owned()))
}

/// A temporary file with the rights of an ordinary one, which it becomes.
fn beside(dir: &Path) -> Result<NamedTempFile> {
    ensure!(dir.is_dir(), "there is no directory {}", dir.display());
    let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(dir);
    // The whole error would name a file nobody asked for.
    Ok(file.map_err(|error| io::Error::from(error.kind()))?)
}

/// Like `output`, for text: a terminal may show it.
pub fn text_output(path: Option<&Path>) -> Result<Output> {
    match path.filter(|path| *path != Path::new("-")) {
        None => Ok(Output::Stdout(BufWriter::new(io::stdout()))),
        path => output(path),
    }
}

impl Output {
    /// Flushes, and gives a file its name.
    pub fn commit(self) -> Result<()> {
        match self {
            Output::Stdout(mut out) => Ok(out.flush()?),
            Output::Special(mut out) => Ok(out.flush()?),
            Output::File(out, path) => {
                let file = out.into_inner().map_err(|e| e.into_error());
                let file = file.with_context(|| path.display().to_string())?;
                let named = file.persist(&path).map_err(|e| e.error);
                named.with_context(|| path.display().to_string())?;
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout(out) => out.write(bytes),
            Output::Special(out) => out.write(bytes),
            Output::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.flush(),
            Output::Special(out) => out.flush(),
            Output::File(out, _) => out.flush(),
        }
    }
}
