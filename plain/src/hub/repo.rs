//! How a repository of the hub is named: `org/name`, or `org/name@revision`.

use std::fmt;

/// The longest part of a name that the hub gives out.
const LONGEST: usize = 96;
const MAIN: &str = "main";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Model,
    Data,
}

/// A repository at a revision: a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Repo {
    pub kind: Kind,
    pub id: String,
    pub revision: String,
}

impl Repo {
    /// Reads `org/name[@revision]`, or the bare name of an old model; nothing if it cannot be one.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let parts: Vec<&str> = id.split('/').collect();
        let count = match kind {
            Kind::Model => 1..=2,
            Kind::Data => 2..=2,
        };
        let fine = count.contains(&parts.len()) && parts.iter().all(|part| is_name(part));
        let fine = fine && is_safe(revision) && !id.ends_with(".git");
        fine.then(|| Self { kind, id: id.to_owned(), revision: revision.to_owned() })
    }

    /// Where the cache keeps it.
    pub fn folder(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Data => "datasets",
        };
        format!("{kind}--{}", self.id.replace('/', "--"))
    }

    /// The path of the list of its files.
    pub fn info_path(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Data => "datasets",
        };
        format!("/api/{kind}/{}/revision/{}", self.id, escaped(&self.revision, ""))
    }

    /// The path of one of its files, as of a commit.
    pub fn file_path(&self, commit: &str, file: &str) -> String {
        format!("{}/resolve/{commit}/{}", self.page(), escaped(file, "/"))
    }

    /// The path of the page that people look at.
    pub fn page(&self) -> String {
        match self.kind {
            Kind::Model => format!("/{}", self.id),
            Kind::Data => format!("/datasets/{}", self.id),
        }
    }

    /// What messages call its kind.
    pub fn what(&self) -> &'static str {
        match self.kind {
            Kind::Model => "model",
            Kind::Data => "data set",
        }
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.revision.as_str() {
            MAIN => write!(out, "{}", self.id),
            revision => write!(out, "{}@{revision}", self.id),
        }
    }
}

/// Whether the hub could have given this name out.
fn is_name(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: char| "-.".contains(c);
    (1..=LONGEST).contains(&part.len())
        && part.chars().all(plain)
        && !part.starts_with(edge)
        && !part.ends_with(edge)
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether a path that a server or a user named stays below the directory it is put into.
pub fn is_safe(path: &str) -> bool {
    let plain = |part: &str| !["", ".", ".."].contains(&part);
    path.split('/').all(plain) && !path.contains(['\0', '\\'])
}

/// Whether the text is a whole git commit.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Percent-encoded for the path of a URL (RFC 3986), but for the bytes of `kept`.
fn escaped(text: &str, kept: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| match plain(byte) || kept.as_bytes().contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_revisions() {
        let model = |text| Repo::parse(Kind::Model, text);
        let repo = model("org/na.me@refs/pr/1").unwrap();
        assert_eq!(repo.info_path(), "/api/models/org/na.me/revision/refs%2Fpr%2F1");
        assert_eq!(repo.folder(), "models--org--na.me");
        assert_eq!(repo.file_path("c", "a b/ü.txt"), "/org/na.me/resolve/c/a%20b/%C3%BC.txt");
        assert_eq!(model("distilroberta-base").unwrap().to_string(), "distilroberta-base");
        for bad in
            ["", "/", "a/b/c", "./a", "a/..", "a//b", "a/b@", "a/b@../x", "-a/b", "a b", "a--b"]
        {
            assert!(model(bad).is_none(), "{bad}");
        }
        assert!(Repo::parse(Kind::Data, "imdb").is_none());
    }

    #[test]
    fn paths_stay_below() {
        assert!(is_safe("a/b.c") && is_safe("..a/b"));
        for bad in ["", "/a", "a/../b", "..", "a//b", "a/", "a\0", "..\\a", "./a"] {
            assert!(!is_safe(bad), "{bad:?}");
        }
    }
}
