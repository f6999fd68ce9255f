//! One blob into the cache: gone on from where it stopped, its length and checksum seen to.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;

use anyhow::{Result, bail};
use ureq::Body;
use ureq::http::Response;

use super::cache::written;
use super::check::Etag;
use super::http::{Client, TRIES, Trouble, pause};
use crate::cli::{self, Progress};
use crate::flags::fault;

const CHUNK: usize = 1 << 17;

/// What is to come, as the hub described it.
pub struct Wanted {
    /// What messages call it.
    pub name: String,
    pub url: String,
    pub etag: Etag,
    /// Bytes; not known of every mirror.
    pub size: Option<u64>,
}

impl Wanted {
    /// Fetches the bytes to `blob`, by way of `blob.incomplete`.
    pub fn fetch(&self, client: &Client, blob: &Path) -> Result<()> {
        let part = blob.with_file_name(format!("{}.incomplete", self.etag.name()));
        let mut resumed = fs::metadata(&part).is_ok_and(|about| about.len() > 0);
        loop {
            self.fill(client, &part)?;
            let Err(cause) = self.check(&part) else { break };
            let _ = fs::remove_file(&part);
            // Bytes of an earlier try may be what is wrong.
            if !resumed {
                return Err(cause);
            }
            resumed = false;
        }
        fs::rename(&part, blob).map_err(|error| written(blob, error))
    }

    /// Asks for what is missing until nothing is. Every byte that comes makes up for a lost connection.
    fn fill(&self, client: &Client, part: &Path) -> Result<()> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(part)
            .map_err(|error| written(part, error))?;
        let mut at = file.metadata()?.len();
        // Without a known length nothing tells how much is missing.
        if self.size.is_none_or(|size| at > size) {
            at = emptied(&file)?;
        }
        let mut bar = Progress::bytes(&self.name, self.size.unwrap_or(0));
        let mut tries = 1;
        while self.size.is_none_or(|size| at < size) {
            let answer = client.bytes(&self.url, at).map_err(|trouble| self.lost(&trouble))?;
            let before = at;
            // A server that does not heed the range begins anew.
            if at > 0 && answer.status().as_u16() != 206 {
                at = emptied(&file)?;
            }
            let ended = self.copy(answer, &mut file, &mut at, &mut bar, part)?;
            if ended && self.size.is_none_or(|size| at >= size) {
                break;
            }
            tries = if at > before { 1 } else { tries + 1 };
            if tries == TRIES {
                let lost = Trouble::Unreached(format!("the connection was lost at byte {at}"));
                return Err(self.lost(&lost));
            }
            thread::sleep(pause(tries));
        }
        bar.finish();
        Ok(())
    }

    /// Appends what comes; whether the server ended it, rather than a lost connection.
    fn copy(
        &self,
        mut answer: Response<Body>,
        file: &mut File,
        at: &mut u64,
        bar: &mut Progress,
        part: &Path,
    ) -> Result<bool> {
        let mut reader = answer.body_mut().with_config().limit(u64::MAX).reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    file.write_all(&chunk[..count]).map_err(|error| written(part, error))?;
                    *at += count as u64;
                    bar.set(*at, String::new);
                }
                Err(_) => return Ok(false),
            }
        }
    }

    fn lost(&self, trouble: &Trouble) -> anyhow::Error {
        let cure = "what came so far is kept: the same command goes on from there";
        fault(format!("{}: {trouble}", self.name), cure)
    }

    fn check(&self, part: &Path) -> Result<()> {
        let (name, size) = (&self.name, fs::metadata(part)?.len());
        if let Some(wanted) = self.size.filter(|wanted| *wanted != size) {
            bail!("{name}: it has {size} bytes, the hub says {wanted}");
        }
        if !self.etag.is_checksum() {
            cli::warn(format_args!(
                "{name}: the server gives no checksum; only its length was seen to"
            ));
            return Ok(());
        }
        let sum = self.etag.of(part)?;
        if sum != self.etag.name().to_lowercase() {
            let cause = format!(
                "{name}: its checksum is {sum:.12}…, the hub says {:.12}…: what came was thrown away",
                self.etag.name()
            );
            return Err(fault(
                cause,
                "try again; if it stays so, the mirror (HF_ENDPOINT) serves other bytes",
            ));
        }
        Ok(())
    }
}

fn emptied(file: &File) -> Result<u64> {
    file.set_len(0)?;
    Ok(0)
}
