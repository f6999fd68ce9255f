//! Where data goes: standard output, or a file written beside and renamed.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::partial::Partial;
use crate::flags::{fault, usage};

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 16;

/// A stream for data, which names itself in errors. A file appears under its name only when `commit` is called.
pub struct Output {
    name: String,
    sink: BufWriter<Box<dyn Write + Send>>,
    partial: Option<Partial>,
}

/// Opens `path` for writing; nothing or `-` is standard output, refused for binary data if it is a terminal.
pub fn output(path: Option<&Path>) -> Result<Output> {
    match path.filter(|path| *path != Path::new("-")) {
        None if io::stdout().is_terminal() => Err(fault(
            "standard output: is a terminal",
            "binary data: redirect it (> FILE) or pipe it on (| mask, | peek)",
        )),
        None => text_output(None),
        Some(path) => open(path).with_context(|| format!("{}: cannot be written", path.display())),
    }
}

fn open(path: &Path) -> Result<Output> {
    let (about, name) = (path.metadata().ok(), path.display().to_string());
    ensure!(!about.as_ref().is_some_and(|about| about.is_dir()), "is a directory");
    // A rename would put a file in the place of /dev/null.
    if about.is_some_and(|about| !about.is_file()) {
        let file = OpenOptions::new().write(true).open(path)?;
        return Ok(Output::new(name, file, None));
    }
    let (partial, file) = Partial::begin(path)?;
    Ok(Output::new(name, file, Some(partial)))
}

/// Like `output`, for text: a terminal may show it.
pub fn text_output(path: Option<&Path>) -> Result<Output> {
    match path.filter(|path| *path != Path::new("-")) {
        None => Ok(Output::new("standard output".into(), io::stdout(), None)),
        path => output(path),
    }
}

/// Fails where two outputs, each with its flag, are one file, or one is a file that is read; nothing or `-` is standard
/// output.
pub fn apart(outputs: &[(&str, Option<&Path>)], inputs: &[PathBuf]) -> Result<()> {
    let inputs: Vec<PathBuf> =
        inputs.iter().filter(|path| path.is_file()).filter_map(|path| place(path)).collect();
    let mut taken: Vec<(&str, PathBuf)> = Vec::new();
    for (flag, path) in outputs {
        let path = path.unwrap_or(Path::new("-"));
        let Some(place) = place(path) else { continue };
        let cause = |what: &str| usage(format!("{flag} {}: {what}", path.display()));
        if let Some((other, _)) = taken.iter().find(|(_, known)| *known == place) {
            bail!(cause(&format!("{other} writes there, too")).hint("give each a file of its own"));
        }
        let read = path != Path::new("-") && inputs.contains(&place);
        ensure!(!read, cause("is read here, too").hint("write to another file"));
        taken.push((flag, place));
    }
    Ok(())
}

/// Where a file is or would be; nothing of what many may write to, as /dev/null.
fn place(path: &Path) -> Option<PathBuf> {
    match path.metadata() {
        _ if path == Path::new("-") => Some(path.to_owned()),
        Ok(about) => about.is_file().then(|| path.canonicalize().ok())?,
        Err(_) => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            Some(dir.unwrap_or(Path::new(".")).canonicalize().ok()?.join(path.file_name()?))
        }
    }
}

impl Output {
    fn new(name: String, sink: impl Write + Send + 'static, partial: Option<Partial>) -> Self {
        Self { name, sink: BufWriter::with_capacity(BUFFER, Box::new(sink)), partial }
    }

    /// Whether it has no name yet, and what was written can be written over.
    pub fn can_overwrite(&self) -> bool {
        self.partial.is_some()
    }

    /// Writes `start` over the first bytes of what was written, where `can_overwrite`.
    pub fn overwrite(&mut self, start: &[u8]) -> Result<()> {
        self.flush()?;
        let partial = self.partial.iter().try_for_each(|partial| partial.overwrite(start));
        Ok(partial.map_err(|error| named(&self.name, error))?)
    }

    /// Flushes, and gives a file its name.
    pub fn commit(mut self) -> Result<()> {
        self.flush()?;
        let Self { name, partial, .. } = self;
        partial.map_or(Ok(()), Partial::finish).with_context(|| name)
    }
}

/// The error of a write, with the name of what was written to.
fn named(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes).map_err(|error| named(&self.name, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush().map_err(|error| named(&self.name, error))
    }
}
