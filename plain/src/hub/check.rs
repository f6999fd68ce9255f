//! Checksums: the hub names large files by their sha256, small ones as git does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What a file is called in the cache, and what its bytes must add up to.
#[derive(Debug, Clone, PartialEq)]
pub struct Etag(String);

impl Etag {
    /// Reads the header; nothing if it cannot be the name of a file.
    pub fn read(header: &str) -> Option<Self> {
        let name = header.trim().trim_start_matches("W/").trim_matches('"');
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let fine = plain && (1..=128).contains(&name.len()) && !name.starts_with('.');
        fine.then(|| Self(name.to_owned()))
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it says anything about the bytes.
    pub fn is_checksum(&self) -> bool {
        [40, 64].contains(&self.0.len()) && self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// The checksum of a file, of the kind this one is.
    pub fn of(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        if self.0.len() == 64 {
            return digest(Sha256::new(), &mut file);
        }
        // A git blob is hashed behind its kind and size.
        let size = file.metadata()?.len();
        digest(Sha1::new_with_prefix(format!("blob {size}\0")), &mut file)
    }
}

fn digest(mut hash: impl Digest + io::Write, file: &mut impl Read) -> io::Result<String> {
    io::copy(file, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_git_and_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "hello\n").unwrap();
        // `git hash-object` and `sha256sum` of the same bytes.
        for sum in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let etag = Etag::read(&format!("W/\"{sum}\"")).unwrap();
            assert!(etag.is_checksum());
            assert_eq!(etag.of(file.path()).unwrap(), sum);
        }
    }

    #[test]
    fn etags_are_names_of_files() {
        assert!(!Etag::read("\"a-1\"").unwrap().is_checksum());
        for bad in ["", "\"\"", "../x", "a/b", ".x", "a b", &"a".repeat(129)] {
            assert!(Etag::read(bad).is_none(), "{bad}");
        }
    }
}
