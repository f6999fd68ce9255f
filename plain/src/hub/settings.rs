//! Where the hub is, where its files are kept, and as whom it is asked: the variables of Python's huggingface_hub.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli;
use crate::flags::fault;

const ENDPOINT: &str = "https://huggingface.co";

#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of repositories.
    pub cache: PathBuf,
    /// The hub, or a mirror of it, without a slash at the end.
    pub endpoint: String,
    pub token: Option<String>,
    /// Nothing is asked for; what the cache lacks is an error.
    pub offline: bool,
}

impl Settings {
    pub fn from_env() -> Result<Self> {
        let cache = match (set("HF_HUB_CACHE"), home()) {
            (Some(cache), _) => expanded(&cache),
            (None, Some(home)) => home.join("hub"),
            (None, None) => {
                return Err(fault(
                    "no place for what is downloaded: neither HF_HOME nor HOME is set",
                    "HF_HOME=DIR names one",
                ));
            }
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or(ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let on = |value: String| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase());
        Ok(Self { cache, endpoint, token: token(), offline: set("HF_HUB_OFFLINE").is_some_and(on) })
    }
}

fn set(name: &str) -> Option<String> {
    cli::variable(name).filter(|value| !value.is_empty())
}

/// `HF_HOME`, else `huggingface` in the user's folder of caches.
fn home() -> Option<PathBuf> {
    let given = set("HF_HOME").map(|home| expanded(&home));
    let caches = || set("XDG_CACHE_HOME").map(|caches| expanded(&caches));
    let user = || set("HOME").map(|home| Path::new(&home).join(".cache"));
    given.or_else(|| Some(caches().or_else(user)?.join("huggingface")))
}

/// `HF_TOKEN`, else what a login left behind.
fn token() -> Option<String> {
    let file = || fs::read_to_string(home()?.join("token")).ok();
    let token = set("HF_TOKEN").or_else(file)?.trim().to_owned();
    Some(token).filter(|token| !token.is_empty())
}

/// `~/` is the user's folder.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), set("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}
