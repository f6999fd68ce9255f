//! A small hub on 127.0.0.1: the API, redirects to a store, ranges, tokens, and whatever goes wrong on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha1::Digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files from this size on are kept in the store, as LFS has it.
const LARGE: usize = 1000;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// This status, and the hub's word for it.
    Status(u16, &'static str),
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// So many bytes at a time, with pauses.
    Slow(usize),
    /// The last byte is another one.
    Wrong,
    /// The range is not heeded.
    Whole,
    /// There is no checksum, but a name of the mirror's own.
    Unnamed,
}

#[derive(Default)]
struct State {
    /// Path of the repository (`models/org/name`), then its files.
    repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Part of a request line, the fault, and how often it still happens.
    faults: Vec<(String, Fault, usize)>,
    /// Every request: method, path, and what it was asked with.
    log: Vec<String>,
}

#[derive(Clone)]
pub struct Hub {
    pub endpoint: String,
    /// Large files come from another host.
    store: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn start() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, store] =
            listeners.each_ref().map(|at| format!("http://{}", at.local_addr().unwrap()));
        let hub = Self { endpoint, store, state: Arc::default() };
        for listener in listeners {
            let own = hub.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let hub = own.clone();
                    thread::spawn(move || hub.serve(stream));
                }
            });
        }
        hub
    }

    pub fn put(&self, repo: &str, file: &str, bytes: impl Into<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        state.repos.entry(repo.into()).or_default().insert(file.into(), bytes.into());
    }

    /// Requests whose line contains `part` fail so, the next `times` times.
    pub fn fail(&self, part: &str, fault: Fault, times: usize) {
        self.state.lock().unwrap().faults.push((part.into(), fault, times));
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let header = |name: &str| {
            let named = |line: &&String| line.to_lowercase().starts_with(&format!("{name}:"));
            let line = lines.iter().find(named)?;
            Some(line.split_once(':').unwrap().1.trim().to_owned())
        };
        let (range, token) = (header("range"), header("authorization"));
        let line = lines[0].clone();
        let mut entry = line.trim_end_matches(" HTTP/1.1").to_owned();
        for said in [&range, &token].into_iter().flatten() {
            write!(entry, " {said}").unwrap();
        }
        let fault = self.note(entry, &line);
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let start = range.filter(|_| fault != Some(Fault::Whole));
        let start = start.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let answer = self.answer(path, fault, start.unwrap_or(0));
        send(&mut stream, &answer, method == "HEAD", fault);
    }

    fn note(&self, entry: String, line: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.log.push(entry);
        let (_, fault, times) =
            state.faults.iter_mut().find(|(part, _, times)| line.contains(part) && *times > 0)?;
        *times -= 1;
        Some(*fault)
    }

    fn answer(&self, path: &str, fault: Option<Fault>, start: usize) -> Answer {
        if let Some(Fault::Status(status, word)) = fault {
            return Answer {
                status,
                headers: format!("X-Error-Code: {word}\r\n"),
                body: Vec::new(),
            };
        }
        let state = self.state.lock().unwrap();
        if let Some(rest) = path.strip_prefix("/api/") {
            let repo = rest.split_once("/revision/").map(|(repo, _)| repo);
            return match repo.and_then(|repo| state.repos.get(repo)) {
                None => refused("RepoNotFound"),
                Some(files) => {
                    let siblings: Vec<_> =
                        files.keys().map(|name| json!({ "rfilename": name })).collect();
                    let about = json!({"sha": COMMIT, "siblings": siblings});
                    Answer { status: 200, headers: String::new(), body: about.to_string().into() }
                }
            };
        }
        if let Some(sum) = path.strip_prefix("/store/") {
            let mut files = state.repos.values().flat_map(BTreeMap::values);
            let Some(bytes) = files.find(|bytes| sha256(bytes) == sum) else {
                return refused("EntryNotFound");
            };
            return ranged(bytes, start, format!("ETag: \"{:.8}\"\r\n", sum));
        }
        let (page, rest) = path.trim_start_matches('/').split_once("/resolve/").unwrap();
        let repo =
            if page.starts_with("datasets/") { page.into() } else { format!("models/{page}") };
        let file = rest.split_once('/').unwrap().1.replace("%20", " ");
        let Some(bytes) = state.repos.get(&repo).and_then(|files| files.get(&file)) else {
            return refused("EntryNotFound");
        };
        let mut headers = format!("X-Repo-Commit: {COMMIT}\r\n");
        if fault == Some(Fault::Unnamed) {
            return ranged(bytes, start, headers + "ETag: W/\"mirror-1\"\r\n");
        }
        if bytes.len() < LARGE {
            return ranged(bytes, start, headers + &format!("ETag: \"{}\"\r\n", git(bytes)));
        }
        let sum = sha256(bytes);
        write!(
            headers,
            "X-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {}\r\nLocation: {}/store/{sum}\r\n",
            bytes.len(),
            self.store,
        )
        .unwrap();
        Answer { status: 302, headers, body: Vec::new() }
    }
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

fn refused(word: &str) -> Answer {
    Answer { status: 404, headers: format!("X-Error-Code: {word}\r\n"), body: Vec::new() }
}

fn ranged(bytes: &[u8], start: usize, mut headers: String) -> Answer {
    if start == 0 {
        return Answer { status: 200, headers, body: bytes.to_owned() };
    }
    let end = bytes.len() - 1;
    write!(headers, "Content-Range: bytes {start}-{end}/{}\r\n", bytes.len()).unwrap();
    Answer { status: 206, headers, body: bytes[start..].to_owned() }
}

fn send(stream: &mut TcpStream, answer: &Answer, head: bool, fault: Option<Fault>) {
    let Answer { status, headers, body } = answer;
    let top = format!(
        "HTTP/1.1 {status} -\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut body = body.clone();
    let mut pace = body.len().max(1);
    match fault {
        Some(Fault::Wrong) => *body.last_mut().unwrap() ^= 1,
        Some(Fault::Cut(at)) => body.truncate(at),
        Some(Fault::Slow(bytes)) => pace = bytes,
        _ => {}
    }
    let mut write = || -> std::io::Result<()> {
        stream.write_all(top.as_bytes())?;
        for part in body.chunks(pace).filter(|_| !head) {
            stream.write_all(part)?;
            if let Some(Fault::Slow(_)) = fault {
                thread::sleep(Duration::from_millis(20));
            }
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    };
    // The other side may have gone.
    let _ = write();
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// The name git gives these bytes.
pub fn git(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
