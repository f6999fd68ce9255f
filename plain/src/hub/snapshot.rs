//! A repository as of one commit.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::cache::Shelf;
use super::check::Etag;
use super::download::Wanted;
use super::http::{Client, Trouble, header};
use super::repo::{Kind, Repo, is_commit, is_safe};
use super::settings::Settings;
use crate::cli;
use crate::flags::fault;

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of a file list that are read.
const LONGEST_LIST: u64 = 256 << 20;

/// The files of a repository at a commit, those in the cache and those to be had.
pub struct Snapshot {
    repo: Repo,
    commit: String,
    files: Vec<String>,
    shelf: Shelf,
    /// Nothing where only the cache is asked.
    client: Option<Client>,
}

/// What the hub says of a repository.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Snapshot {
    /// Asks what the revision stands for; offline, or where the hub is not reached, what it stood for when last asked.
    pub fn open(repo: Repo, settings: Settings) -> Result<Self> {
        let shelf = Shelf::new(&settings.cache, &repo);
        if settings.offline {
            let cure = "HF_HUB_OFFLINE is set: unset it to download";
            return Self::cached(repo, shelf, ("and not in the hub's cache", cure));
        }
        let client = Client::new(settings.endpoint, settings.token, PATIENCE);
        let answer = match client.get(&repo.info_path()) {
            Ok(answer) => answer,
            Err(Trouble::Unreached(cause)) => {
                let why = format!("{} is not reached: {cause}", client.endpoint());
                let cached = format!("not in the hub's cache, and {why}");
                let cached = (cached.as_str(), "HF_ENDPOINT=URL names a mirror");
                let cached = Self::cached(repo, shelf, cached)?;
                cli::note(format_args!(
                    "{why}; {} is taken as it was when last asked",
                    cached.repo
                ));
                return Ok(cached);
            }
            Err(Trouble::Refused { status, word }) => {
                return Err(refused(&repo, &client, status, &word));
            }
        };
        let mut body = answer.into_body();
        let text = body.with_config().limit(LONGEST_LIST).read_to_string();
        let text = text.map_err(|error| lost(&repo, &error.to_string()))?;
        let info: Info = serde_json::from_str(&text)
            .map_err(|error| lost(&repo, &format!("its file list is none: {error}")))?;
        let files = listed(&repo, &info)?;
        shelf.point(&repo.revision, &info.sha)?;
        Ok(Self { repo, commit: info.sha, files, shelf, client: Some(client) })
    }

    /// What the cache has; `absent` says why there is no more, and the cure.
    fn cached(repo: Repo, shelf: Shelf, absent: (&str, &str)) -> Result<Self> {
        let Some(commit) = shelf.commit(&repo.revision) else {
            let here = if repo.kind == Kind::Model { "directory" } else { "file or directory" };
            return Err(fault(format!("{repo}: no such {here}, {}", absent.0), absent.1));
        };
        let files = shelf.files(&commit);
        Ok(Self { repo, commit, files, shelf, client: None })
    }

    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The names of the files that can be had.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    pub fn is_offline(&self) -> bool {
        self.client.is_none()
    }

    /// Where its files lie.
    pub fn dir(&self) -> PathBuf {
        self.shelf.snapshot(&self.commit)
    }

    /// Fetches those of these files that there are.
    pub fn fetch_those_of(&self, files: &[&str]) -> Result<()> {
        let mut here = files.iter().filter(|file| self.files.iter().any(|own| own == *file));
        here.try_for_each(|file| self.fetch(file).map(drop))
    }

    /// Fetches a file unless the cache has it, and gives its place.
    pub fn fetch(&self, file: &str) -> Result<PathBuf> {
        let place = self.dir().join(file);
        match &self.client {
            Some(client) if !place.exists() => self.download(client, file)?,
            _ => {}
        }
        Ok(place)
    }

    fn download(&self, client: &Client, file: &str) -> Result<()> {
        let name = format!("{}/{file}", self.repo.id);
        let (answer, url) = match client.head(&self.repo.file_path(&self.commit, file)) {
            Ok(found) => found,
            Err(Trouble::Refused { status, word }) => {
                return Err(refused(&self.repo, client, status, &word).context(name));
            }
            Err(trouble) => return Err(lost(&self.repo, &trouble.to_string())),
        };
        let etag = header(&answer, "x-linked-etag").or(header(&answer, "etag"));
        let etag = etag.and_then(Etag::read);
        let etag =
            etag.with_context(|| format!("{name}: the hub gives no name for its contents"))?;
        let size = header(&answer, "x-linked-size").or(header(&answer, "content-length"));
        let size = size.and_then(|size| size.parse().ok());
        let (blob, _lock) = (self.shelf.blob(etag.name()), self.shelf.lock(etag.name())?);
        if !blob.exists() {
            let wanted = Wanted { name, url, etag: etag.clone(), size };
            wanted.fetch(client, &blob)?;
        }
        self.shelf.link(&self.commit, file, etag.name())
    }
}

/// The names of a file list, every one of which must stay below its repository.
fn listed(repo: &Repo, info: &Info) -> Result<Vec<String>> {
    ensure!(is_commit(&info.sha), "{repo}: the hub names no commit, but {:?}", info.sha);
    for Sibling { rfilename } in &info.siblings {
        if !is_safe(rfilename) {
            bail!(
                "{repo}: its file list names {rfilename:?}, which leads out of it: nothing is downloaded"
            );
        }
    }
    Ok(info.siblings.iter().map(|sibling| sibling.rfilename.clone()).collect())
}

fn lost(repo: &Repo, cause: &str) -> anyhow::Error {
    fault(
        format!("{repo}: {cause}"),
        "what came so far is kept: the same command goes on from there",
    )
}

/// What the hub's refusal means. It says 401 of what is private and of what is not there.
fn refused(repo: &Repo, client: &Client, status: u16, word: &str) -> anyhow::Error {
    let (what, endpoint) = (repo.what(), client.endpoint());
    let token = match client.has_token() {
        true => "check the name, and that HF_TOKEN (or the login) is valid and may read it",
        false => "check the name; what is private wants HF_TOKEN",
    };
    let (cause, cure) = match (status, word) {
        (_, "GatedRepo") => (
            "its authors let in whom they know".to_owned(),
            format!("ask for access at {endpoint}{}, then set HF_TOKEN", repo.page()),
        ),
        (_, "RevisionNotFound") => (
            format!("has no revision `{}`", repo.revision),
            format!("see {endpoint}{}", repo.page()),
        ),
        (_, "EntryNotFound") => ("no such file".into(), format!("see {endpoint}{}", repo.page())),
        (401, _) => (
            format!("no such path here, and no such {what} at {endpoint}, or it is private (401)"),
            token.into(),
        ),
        (404, _) => {
            (format!("no such path here, and no such {what} at {endpoint} (404)"), token.into())
        }
        (403, _) => (format!("{endpoint} refuses it (403)"), token.into()),
        (status, _) => (
            format!("{endpoint} answers {status}"),
            "try again later, or name a mirror with HF_ENDPOINT=URL".into(),
        ),
    };
    fault(format!("{repo}: {cause}"), cure)
}
