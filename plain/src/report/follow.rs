//! Runs as they go on, read from their logs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use indicatif::{DecimalBytes, HumanDuration};
use serde_json::Value;

use super::score::{SCORES, grouped};
use crate::flags::fault;

/// Silence after which it is said, unless lines come more rarely than that; and after which a run counts as killed.
const QUIET: Duration = Duration::from_secs(30);
const KILLED: Duration = Duration::from_secs(600);
/// The same in times that passed between the last two lines of steps.
const QUIET_TIMES: f64 = 3.0;
const KILLED_TIMES: f64 = 20.0;

/// The runs in and below some directories. Those that had ended before are passed over until they go on.
pub struct Follow {
    roots: Vec<PathBuf>,
    runs: BTreeMap<PathBuf, Run>,
    looked: bool,
}

/// What there is to say of a run.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Its directory, as from that which is looked in if there is but one.
    pub name: String,
    /// How it goes, in parts; of a run that has ended, how it ended.
    pub parts: Vec<String>,
    pub goes_on: bool,
    /// Whether it says something else than the time.
    pub is_news: bool,
}

impl Follow {
    /// Fails where one of them is not there.
    pub fn new(roots: &[PathBuf]) -> Result<Self> {
        for root in roots {
            let cure = "runs make it as they begin";
            ensure!(root.exists(), fault(format!("{}: is not there", root.display()), cure));
        }
        Ok(Self { roots: roots.to_owned(), runs: BTreeMap::new(), looked: false })
    }

    /// A line of each run that goes on, and of each that ended since the last look; in order of their directories.
    pub fn look(&mut self) -> Vec<Line> {
        let mut logs = Vec::new();
        self.roots.iter().for_each(|root| find(root, &mut logs));
        for log in logs {
            self.runs
                .entry(log)
                .or_insert_with(|| Run { tells_ends: self.looked, ..Run::default() });
        }
        self.looked = true;
        let above = if let [root] = &self.roots[..] { root } else { Path::new("") };
        self.runs.iter_mut().filter_map(|(log, run)| run.look(log, above)).collect()
    }

    /// Runs that neither go on nor came to an end: killed, or on a machine that was.
    pub fn killed(&self) -> usize {
        self.runs.values().filter(|run| !run.goes_on && run.state.is_cut_off()).count()
    }
}

/// Logs in or below a directory. What goes away meanwhile is no error.
fn find(path: &Path, logs: &mut Vec<PathBuf>) {
    if path.is_file() && path.ends_with("log.jsonl") {
        logs.push(path.to_owned());
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // Not by links: they may go round.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), logs);
        } else if entry.file_name() == "log.jsonl" {
            logs.push(entry.path());
        }
    }
}

/// A run, and how far its log was read.
#[derive(Default)]
struct Run {
    state: State,
    /// Bytes read, up to the end of a line.
    read: u64,
    /// Not of what had ended at the first look.
    tells_ends: bool,
    goes_on: bool,
    is_quiet: bool,
}

impl Run {
    fn look(&mut self, log: &Path, above: &Path) -> Option<Line> {
        let before = (self.goes_on, self.is_quiet);
        let (mut is_news, mut age, mut gone) = (false, Duration::ZERO, None);
        match self.read(log) {
            Ok((read, written)) => {
                is_news = read;
                age = SystemTime::now().duration_since(written).unwrap_or_default();
            }
            // It may be there again at the next look.
            Err(error) => gone = Some(unread(&error)),
        }
        let silent = |least: Duration, times: f64| age > least.max(self.state.pause.mul_f64(times));
        self.goes_on = gone.is_none() && self.state.is_cut_off() && !silent(KILLED, KILLED_TIMES);
        self.is_quiet = silent(QUIET, QUIET_TIMES);
        // Within a look it may have gone on and ended again.
        let has_ended = before.0 || (is_news && self.tells_ends);
        self.tells_ends = true;
        if !self.goes_on && !has_ended {
            return None;
        }
        is_news |= (self.goes_on, self.is_quiet) != before;
        let dir = log.parent().unwrap_or(log);
        let below = dir.strip_prefix(above).ok().filter(|below| *below != Path::new(""));
        let name = below.unwrap_or(dir).display().to_string();
        let parts = match gone.as_ref().or(self.state.end.as_ref()) {
            Some(end) => vec![end.clone()],
            None if self.goes_on => self.state.parts(age, self.is_quiet),
            None => {
                vec![format!(
                    "no line for {} s, taken for killed: {}",
                    age.as_secs(),
                    self.state.at()
                )]
            }
        };
        Some(Line { name, parts, goes_on: self.goes_on, is_news })
    }

    /// Takes in the lines that were added. Gives whether there were any, and when the last one was written.
    fn read(&mut self, log: &Path) -> std::io::Result<(bool, SystemTime)> {
        let mut file = File::open(log)?;
        let about = file.metadata()?;
        if about.len() < self.read {
            // Another file in its place.
            (self.state, self.read) = (State::default(), 0);
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // The end of a line that is being written comes with the next look.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            // What a full disk cut off is no event, nor is anything of others.
            serde_json::from_slice(line).iter().for_each(|event| self.state.add(event));
        }
        Ok((whole > 0, about.modified()?))
    }
}

/// Why a log says nothing.
fn unread(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "its log is gone".into(),
        _ => format!("its log cannot be read: {error}"),
    }
}

/// What the events of a log have said.
#[derive(Default)]
struct State {
    has_begun: bool,
    /// Steps planned, done, and done before this process.
    steps: u64,
    step: u64,
    from: u64,
    loss: Option<f64>,
    score: Option<String>,
    rate: Option<f64>,
    /// Seconds of this process at the last step line, and between that and the one before.
    seconds: f64,
    pause: Duration,
    rss: Option<u64>,
    allocated: Option<u64>,
    /// How the run ended.
    end: Option<String>,
}

impl State {
    fn add(&mut self, event: &Value) {
        match event["event"].as_str() {
            Some("run") => {
                let steps = event["steps"].as_u64().unwrap_or(0);
                *self = Self { has_begun: true, steps, ..Self::default() };
            }
            Some("resume") => {
                self.step = event["step"].as_u64().unwrap_or(0);
                self.from = self.step;
            }
            Some("step") => self.add_step(event),
            Some("eval") => self.score = score(&event["scores"]).or(self.score.take()),
            Some("stop") => {
                self.end = Some(format!("stopped {}; the same command goes on", self.at()));
            }
            Some("fail") => {
                // In one line, whatever a terminal would make of it.
                let cause = event["cause"].as_str().unwrap_or_default();
                let cause = cause.replace(char::is_control, " ");
                self.end = Some(format!("failed {}: {cause}", self.at()));
            }
            Some("done") => {
                self.add_memory(event);
                self.end = Some(self.done(event));
            }
            _ => {}
        }
    }

    fn add_step(&mut self, event: &Value) {
        self.step = event["step"].as_u64().unwrap_or(self.step);
        self.loss = event["loss"].as_f64();
        self.rate = event["tokens_per_s"].as_f64();
        let seconds = event["seconds"].as_f64().unwrap_or(self.seconds);
        self.pause = Duration::try_from_secs_f64(seconds - self.seconds).unwrap_or_default();
        self.seconds = seconds;
        self.add_memory(event);
    }

    fn add_memory(&mut self, event: &Value) {
        self.rss = event["max_rss"].as_u64().or(self.rss);
        self.allocated = event["max_memory_allocated"].as_u64().or(self.allocated);
    }

    /// A run of a trainer that has begun, and of which no end was written.
    fn is_cut_off(&self) -> bool {
        self.end.is_none() && self.has_begun
    }

    fn at(&self) -> String {
        format!("after step {} of {}", self.step, self.steps)
    }

    fn done(&self, event: &Value) -> String {
        let seconds = event["seconds"].as_f64().unwrap_or(0.0);
        let steps = event["step"].as_u64().unwrap_or(self.step);
        let mut said = vec![format!("done, {steps} steps in {seconds:.0} s")];
        let kept =
            ["best", "kept"].map(|key| &event[key]).into_iter().find(|kept| kept.is_object());
        if let Some(kept) = kept {
            let score = score(kept).unwrap_or_default();
            said.push(format!("{score} at step {}", kept["step"]));
        } else {
            said.extend(self.score.clone());
        }
        said.extend(event["degenerate"].as_str().map(|how| format!("degenerate: {how}")));
        said.extend(self.memory());
        said.join(", ")
    }

    /// The most telling first: a narrow terminal cuts the last.
    fn parts(&self, age: Duration, is_quiet: bool) -> Vec<String> {
        let mut parts = vec![format!("{}/{}", self.step, self.steps)];
        if is_quiet {
            parts.push(format!("no line for {} s", age.as_secs()));
        }
        parts.push(self.loss.map_or_else(String::new, |loss| format!("loss {loss:.3}")));
        parts.push(self.score.clone().unwrap_or_default());
        let left = self.left(age).filter(|_| !is_quiet);
        parts.push(left.map_or_else(String::new, |left| format!("{:#} left", HumanDuration(left))));
        let rate = |rate: f64| format!("{} tok/s", grouped(rate as u64));
        parts.push(self.rate.map_or_else(String::new, rate));
        parts.push(self.memory().unwrap_or_default());
        parts
    }

    /// The time that the steps to come will take, at the pace of this process.
    fn left(&self, age: Duration) -> Option<Duration> {
        let (done, left) = (self.step.checked_sub(self.from)?, self.steps.checked_sub(self.step)?);
        let all = Duration::try_from_secs_f64(self.seconds * left as f64 / done as f64).ok()?;
        (left > 0).then(|| all.saturating_sub(age))
    }

    fn memory(&self) -> Option<String> {
        let gpu = self.allocated.map(|bytes| format!("{} of the GPU", DecimalBytes(bytes)));
        gpu.or(self.rss.map(|bytes| DecimalBytes(bytes).to_string()))
    }
}

/// The score to show of an evaluation, or of the best of them.
fn score(scores: &Value) -> Option<String> {
    let nats = scores["nats"].as_f64().map(|nats| format!("nats {nats:.3}"));
    let shown = SCORES.iter().find_map(|score| Some((score, scores[score.key].as_f64()?)));
    let shown = shown.map(|(score, value)| format!("{} {}", score.title, score.written(value)));
    let any = || {
        let mut all = scores.as_object()?.iter().filter(|(key, _)| *key != "step");
        all.find_map(|(key, value)| Some(format!("{key} {:.3}", value.as_f64()?)))
    };
    nats.or(shown).or_else(any)
}
