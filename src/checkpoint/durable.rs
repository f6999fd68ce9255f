//! Files that are whole or not there: written beside, down to the disk, then renamed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Error, Result};

use crate::flags::fault;

/// Has `fill` write about `size` bytes beside `path`, then renames. Renamed before it is down on the disk, a loss of power
/// could leave its name and not what is in it. Where anything fails, what stood at `path` stays.
pub fn durably(path: &Path, size: usize, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = path.with_extension("partial");
    let written = fill(&beside).and_then(|()| {
        File::open(&beside)?.sync_all()?;
        Ok(fs::rename(&beside, path)?)
    });
    if let Err(error) = written {
        // A part of a file is of no use to anyone. The error matters more than whether it goes.
        let _ = fs::remove_file(&beside);
        return Err(refused(path, size, error));
    }
    settle(path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new(".")));
    Ok(())
}

/// Puts the names in `dir` down on the disk. Not every file system can; what is in the files is whole either way.
pub fn settle(dir: &Path) {
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
}

/// What went wrong, with the cure where room is what it lacks.
fn refused(path: &Path, size: usize, error: Error) -> Error {
    let named = path.display();
    let lacks_room =
        error.chain().filter_map(|cause| cause.downcast_ref()).any(|cause: &io::Error| {
            matches!(
                cause.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            )
        });
    if !lacks_room {
        return error.context(named.to_string());
    }
    let megabytes = size.div_ceil(1_000_000);
    let cure =
        format!("make room for {megabytes} MB and run it again; what was there before stays");
    fault(format!("{named}: {}", error.root_cause()), cure)
}

pub fn write_beside(path: &Path, bytes: &[u8]) -> Result<()> {
    durably(path, bytes.len(), |beside| Ok(fs::write(beside, bytes)?))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, bail};

    use super::*;
    use crate::flags::Failure;

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_beside(&path, b"before").unwrap();
        let fails = |error: fn() -> Result<()>| {
            let half = |beside: &Path| {
                fs::write(beside, b"ha")?;
                error()
            };
            durably(&path, 3_000_000, half).unwrap_err()
        };
        assert!(fails(|| bail!("no reason")).to_string().contains("a.json"));
        let full = fails(|| Err(io::Error::from(ErrorKind::StorageFull)).context("a.partial"));
        let hint = full.downcast_ref::<Failure>().unwrap().hint.as_deref();
        assert!(hint.is_some_and(|hint| hint.contains("3 MB")), "{hint:?}");
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
