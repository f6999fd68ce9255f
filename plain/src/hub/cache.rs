//! The cache on disk, shared with Python's huggingface_hub:
//!
//! ```text
//! models--ORG--NAME/refs/REVISION           the commit it stood for when last asked
//! models--ORG--NAME/blobs/ETAG              contents, under their checksum
//! models--ORG--NAME/snapshots/COMMIT/FILE   relative links to them
//! .locks/models--ORG--NAME/ETAG.lock        held while the blob is written
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::repo::{Repo, is_commit};
use crate::cli;
use crate::flags::fault;

/// The part of the cache that belongs to one repository.
pub struct Shelf {
    root: PathBuf,
    locks: PathBuf,
}

impl Shelf {
    pub fn new(cache: &Path, repo: &Repo) -> Self {
        Self { root: cache.join(repo.folder()), locks: cache.join(".locks").join(repo.folder()) }
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit a revision stood for when it was last asked.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned()).filter(|commit| self.snapshot(commit).is_dir());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes what a revision stands for.
    pub fn point(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        beside(&path, |beside| fs::write(beside, commit)).map_err(|error| written(&path, error))
    }

    /// Makes `file` of a commit a link to its blob.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        beside(&path, |beside| symlink(target, beside)).map_err(|error| written(&path, error))
    }

    /// Waits until no other process writes this blob.
    pub fn lock(&self, etag: &str) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        let open = || -> io::Result<File> {
            fs::create_dir_all(&self.locks)?;
            fs::create_dir_all(self.root.join("blobs"))?;
            File::options().create(true).append(true).open(&path)
        };
        let lock = open().map_err(|error| written(&path, error))?;
        if lock.try_lock().is_err() {
            cli::note("another process downloads the same file; waiting for it");
            lock.lock().with_context(|| path.display().to_string())?;
        }
        Ok(lock)
    }

    /// The files of a commit that are there whole, by their names below it.
    pub fn files(&self, commit: &str) -> Vec<String> {
        let (root, mut found) = (self.snapshot(commit), Vec::new());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    _ if path.is_file() => found.extend(below(&root, &path)),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }
}

fn below(root: &Path, path: &Path) -> Option<String> {
    Some(path.strip_prefix(root).ok()?.to_str()?.to_owned())
}

/// Makes a file under another name and renames it, so that no reader sees half of it.
fn beside(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&beside);
    make(&beside)?;
    fs::rename(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// The error of a write into the cache.
pub fn written(path: &Path, error: io::Error) -> anyhow::Error {
    let cause = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => fault(
            cause,
            "what came so far is kept and gone on from; make room, or name another disk with HF_HOME=DIR",
        ),
        _ => fault(cause, "HF_HOME=DIR names another place for what is downloaded"),
    }
}
