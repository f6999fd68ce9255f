//! Asking the hub: who is asked, what is asked again, and what its answers mean.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error, Timeout};

/// Redirects followed for one request.
const HOPS: usize = 10;
/// Tries of one request before the answer counts.
pub const TRIES: u32 = 6;
/// The pause after the first try; each one after is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause a server may ask for.
const LONGEST_PAUSE: u64 = 60;

pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// Why there is no answer to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no connection, or it was lost again and again.
    #[error("{0}")]
    Unreached(String),
    /// The hub answered with a status that is an error, and perhaps one of its own words for it.
    #[error("the hub answers {status}")]
    Refused { status: u16, word: String },
}

impl Client {
    /// `patience`: how long a server may say nothing.
    pub fn new(endpoint: String, token: Option<String>, patience: Duration) -> Self {
        // The system's certificates, so that a mirror may have one of its own authority.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(patience.min(Duration::from_secs(10))))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .user_agent(concat!("tapt/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into(), endpoint, token }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The answer for a path of the hub, wherever it is redirected to.
    pub fn get(&self, path: &str) -> Result<Response<Body>, Trouble> {
        let url = format!("{}{path}", self.endpoint);
        Ok(self.ask(|| self.follow("GET", &url, 0, |_| true))?.0)
    }

    /// What the hub says of a file, and the URL its bytes come from: the hub knows the checksum, the store that it
    /// redirects to on another host does not.
    pub fn head(&self, path: &str) -> Result<(Response<Body>, String), Trouble> {
        let url = format!("{}{path}", self.endpoint);
        let (answer, url) = self.ask(|| self.follow("HEAD", &url, 0, |to| to.starts_with('/')))?;
        let url = location(&answer).unwrap_or(url);
        Ok((answer, url))
    }

    /// The bytes at `url` from `start` on, if the server heeds it: its status tells.
    pub fn bytes(&self, url: &str, start: u64) -> Result<Response<Body>, Trouble> {
        Ok(self.ask(|| self.follow("GET", url, start, |_| true))?.0)
    }

    /// Asks again, after a growing pause, while the server is at fault or the connection lost.
    fn ask(&self, once: impl Fn() -> Result<Answer, Error>) -> Result<Answer, Trouble> {
        let mut tries = 1;
        loop {
            let wait = match once() {
                Ok(answer) if tries == TRIES || !is_passing(&answer.0) => return checked(answer),
                Ok(answer) => wanted_pause(&answer.0).unwrap_or(pause(tries)),
                Err(error) if tries == TRIES || !is_lost(&error) => {
                    return Err(Trouble::Unreached(cause(&error)));
                }
                Err(_) => pause(tries),
            };
            thread::sleep(wait);
            tries += 1;
        }
    }

    /// One request, and the redirects that `may` be followed. Only the hub itself is told the token.
    fn follow(
        &self,
        method: &str,
        url: &str,
        start: u64,
        may: impl Fn(&str) -> bool,
    ) -> Result<Answer, Error> {
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let mut request =
                if method == "HEAD" { self.agent.head(&url) } else { self.agent.get(&url) };
            request = request.header("Accept-Encoding", "identity");
            if let Some(token) = self.token.as_ref().filter(|_| same_host(&url, &self.endpoint)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if start > 0 {
                request = request.header("Range", format!("bytes={start}-"));
            }
            let answer = request.call()?;
            match location(&answer).filter(|to| may(to)) {
                Some(to) => url = joined(&url, &to),
                None => return Ok((answer, url)),
            }
        }
        Err(Error::TooManyRedirects)
    }
}

/// What a server answered, and the URL it answered for.
type Answer = (Response<Body>, String);

/// The pause after so many tries.
pub fn pause(tries: u32) -> Duration {
    PAUSE * 2_u32.pow(tries - 1)
}

/// A header of an answer.
pub fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Where a redirect leads, as the server wrote it.
fn location(answer: &Response<Body>) -> Option<String> {
    answer.status().is_redirection().then(|| header(answer, "location").map(str::to_owned))?
}

fn joined(url: &str, location: &str) -> String {
    let host = url.split('/').take(3).collect::<Vec<_>>().join("/");
    if location.starts_with('/') { host + location } else { location.to_owned() }
}

fn same_host(a: &str, b: &str) -> bool {
    let place = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string()))
    };
    place(a).is_some() && place(a) == place(b)
}

/// Whether the same question may be answered later.
fn is_passing(answer: &Response<Body>) -> bool {
    let status = answer.status().as_u16();
    status >= 500 || [408, 429].contains(&status)
}

fn wanted_pause(answer: &Response<Body>) -> Option<Duration> {
    let seconds: u64 = header(answer, "retry-after")?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_PAUSE)))
}

fn checked((answer, url): Answer) -> Result<Answer, Trouble> {
    let status = answer.status().as_u16();
    if status < 400 {
        return Ok((answer, url));
    }
    Err(Trouble::Refused { status, word: header(&answer, "x-error-code").unwrap_or("").to_owned() })
}

/// Whether there was a connection, which another try may find again.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io(error) => error.kind() != ErrorKind::ConnectionRefused,
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => false,
        Error::Timeout(_) | Error::Protocol(_) => true,
        _ => false,
    }
}

fn cause(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "it does not answer".into(),
        Error::HostNotFound => "no such host".into(),
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hub_is_told_the_token() {
        assert!(same_host("https://hub.example/a?b", "https://hub.example"));
        for other in
            ["http://hub.example/a", "https://hub.example.org/a", "https://hub.example:8/a"]
        {
            assert!(!same_host(other, "https://hub.example"), "{other}");
        }
        assert_eq!(joined("https://a:1/b/c", "/d"), "https://a:1/d");
        assert_eq!(joined("https://a/b", "http://e/d"), "http://e/d");
    }
}
