//! What makes two runs the same run, and what keeps two processes out of one directory.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// sha256 of a JSON value, hexadecimal.
pub fn digest_json(value: &Value) -> String {
    format!("{:x}", Sha256::digest(value.to_string()))
}

/// Creates `dir` and holds it until the file is dropped. Fails if another process holds it.
pub fn lock(dir: &Path) -> Result<File> {
    let named = || dir.display().to_string();
    std::fs::create_dir_all(dir).with_context(named)?;
    let file = File::create(dir.join(".lock")).with_context(named)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{}: another run is writing here", named()),
        Err(TryLockError::Error(error)) => Err(error).with_context(named),
    }
}
