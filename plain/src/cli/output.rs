//! Where data goes: standard output, or a file written beside and renamed.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tempfile::NamedTempFile;

use super::Hint;

/// A stream for data. A file appears under its name only when `commit` is called.
pub enum Output {
    Stdout(BufWriter<Stdout>),
    File(BufWriter<NamedTempFile>, PathBuf),
}

/// Opens `path` for writing; nothing or `-` is standard output, refused for binary data if it is a terminal.
pub fn output(path: Option<&Path>) -> Result<Output> {
    match path.filter(|path| *path != Path::new("-")) {
        None if io::stdout().is_terminal() => Err(anyhow!("standard output: is a terminal")
            .context(Hint("binary data: redirect it (> FILE) or pipe it on (| mask, | peek)".into()))),
        None => Ok(Output::Stdout(BufWriter::with_capacity(1 << 16, io::stdout()))),
        Some(path) => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let file = NamedTempFile::new_in(dir.unwrap_or(Path::new(".")));
            let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
            Ok(Output::File(BufWriter::with_capacity(1 << 16, file), path.to_owned()))
        }
    }
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
            Output::File(out, path) => {
                let file = out.into_inner().map_err(|e| e.into_error());
                let file = file.with_context(|| path.display().to_string())?;
                make_readable(file.as_file())?;
                file.persist(&path).with_context(|| path.display().to_string())?;
                Ok(())
            }
        }
    }
}

/// Temporary files are private; what they become is an ordinary file.
fn make_readable(file: &std::fs::File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.set_permissions(PermissionsExt::from_mode(0o644))?)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout(out) => out.write(bytes),
            Output::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.flush(),
            Output::File(out, _) => out.flush(),
        }
    }
}
