//! Files under a name of their own until they are whole. An error takes them along, and so do INT and TERM.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tempfile::TempPath;

/// The files begun and not yet whole; none before the first.
static BEGUN: Mutex<Option<Vec<PathBuf>>> = Mutex::new(None);

/// A file `.NAME.….partial` beside the one it is to become.
pub struct Partial {
    beside: TempPath,
    path: PathBuf,
}

impl Partial {
    /// Begins the file that is to be `path`.
    pub fn begin(path: &Path) -> Result<(Self, File)> {
        let mut begun = begun();
        let begun = match begun.as_mut() {
            Some(begun) => begun,
            None => {
                clear_on_signals()?;
                begun.insert(Vec::new())
            }
        };
        let (file, beside) = beside(path)?.into_parts();
        begun.push(beside.to_path_buf());
        Ok((Self { beside, path: path.to_owned() }, file))
    }

    /// Writes `start` over the first bytes of the file.
    pub fn overwrite(&self, start: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.beside)?.write_all(start)
    }

    /// Gives the file its name.
    pub fn finish(self) -> io::Result<()> {
        let mut begun = begun();
        let begun = begun.get_or_insert_default();
        begun.retain(|path| *path != *self.beside);
        self.beside.persist(&self.path).map_err(|error| error.error)
    }
}

fn begun() -> MutexGuard<'static, Option<Vec<PathBuf>>> {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file with the rights of an ordinary one, which it becomes.
fn beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(dir.is_dir(), "there is no directory {}", dir.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".partial")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir);
    // The whole error would name a file nobody asked for.
    Ok(file.map_err(|error| io::Error::from(error.kind()))?)
}

/// Who holds the lock when the process ends leaves nothing half renamed.
fn clear_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let begun = begun();
            begun.iter().flatten().for_each(|path| drop(fs::remove_file(path)));
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}
