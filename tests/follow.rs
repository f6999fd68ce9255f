//! `report --follow`: runs are shown as they go on, from their logs alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, SystemTime};

use common::{both, shell};

/// Appends to the log of a run.
fn log(dir: &Path, name: &str, text: &str) {
    let dir = dir.join("runs").join(name);
    fs::create_dir_all(&dir).unwrap();
    let mut file =
        OpenOptions::new().create(true).append(true).open(dir.join("log.jsonl")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

const BEGUN: &str = "{\"event\":\"run\",\"program\":\"finetune\",\"steps\":40}\n";
const DONE: &str =
    "{\"event\":\"done\",\"step\":40,\"seconds\":21.6,\"best\":{\"step\":20,\"macro_f1\":0.87}}\n";

fn step(step: u64) -> String {
    let seconds = step as f64 / 2.0;
    format!(
        "{{\"event\":\"step\",\"step\":{step},\"loss\":1.25,\"seconds\":{seconds},\"tokens_per_s\":1234.5,\
         \"max_rss\":1200000000}}\n"
    )
}

/// The last line of a log was written an hour ago.
fn age(dir: &Path, name: &str) {
    let log = File::options().append(true).open(dir.join("runs").join(name).join("log.jsonl"));
    log.unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

/// Line for line what a program writes.
struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    fn start(dir: &Path, command: &str) -> Self {
        let mut command = shell(dir, &format!("exec {command}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The lines that are left, and how it ends.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        let rest = self.lines.lines().map(Result::unwrap).collect();
        (rest, self.child.wait().unwrap().code())
    }
}

#[test]
fn a_line_for_what_changes_until_all_have_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Ended or killed long before: nothing to follow.
    log(dir, "ag/base/full/8", &(BEGUN.to_owned() + DONE));
    log(dir, "ag/base/full/9", BEGUN);
    age(dir, "ag/base/full/9");
    log(dir, "ag/base/full/0", BEGUN);
    let mut watch = Watch::start(dir, "report --follow=0s runs");
    assert_eq!(watch.next(), "ag/base/full/0: 0/40");
    // Half a record is no record yet, and what is no JSON is none at all.
    let (half, rest) = (step(10), step(20));
    let (half, other) = half.split_at(20);
    log(dir, "ag/base/full/0", &format!("of another\n{half}"));
    log(dir, "ag/base/full/0", &(other.to_owned() + &rest));
    let line = |at: &str| format!("ag/base/full/0: {at}, 1,234 tok/s, 1.20 GB");
    let mut seen = watch.next();
    if seen.contains("10/40") {
        seen = watch.next();
    }
    assert_eq!(seen.replace(" 9s left", " 10s left"), line("20/40, loss 1.250, 10s left"));
    // A run that appears later; and one that was done in between.
    let eval = "{\"event\":\"eval\",\"step\":10,\"scores\":{\"nats\":2.5,\"perplexity\":12.2}}\n";
    log(dir, "ag/tapt", &(BEGUN.to_owned() + eval));
    assert_eq!(watch.next(), "ag/tapt: 0/40, nats 2.500");
    log(dir, "ag/base/full/1", &(BEGUN.to_owned() + &step(40) + DONE));
    assert_eq!(
        watch.next(),
        "ag/base/full/1: done, 40 steps in 22 s, macro-F1 87.00 at step 20, 1.20 GB"
    );
    log(dir, "ag/base/full/0", "{\"event\":\"fail\",\"cause\":\"the loss is NaN\"}\n");
    assert_eq!(watch.next(), "ag/base/full/0: failed after step 20 of 40: the loss is NaN");
    // Killed: it says nothing more.
    age(dir, "ag/tapt");
    let (rest, status) = watch.end();
    let [last] = &rest[..] else { panic!("{rest:?}") };
    assert!(last.starts_with("ag/tapt: no line for 36"), "{last}");
    assert!(last.ends_with(" s, taken for killed: after step 0 of 40"), "{last}");
    assert_eq!(status, Some(0));
}

#[test]
fn what_goes_on_again_is_shown_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    log(dir, "one", &(BEGUN.to_owned() + &step(10)));
    age(dir, "one");
    let none = shell(dir, "report --follow=0s runs").output().unwrap();
    assert_eq!(both(&none), "report: no run goes on; 1 said nothing for long: killed, it seems\n");
    let mut watch = Watch::start(dir, "report --follow=2m runs/one");
    log(dir, "one", &(BEGUN.to_owned() + "{\"event\":\"resume\",\"step\":10}\n"));
    assert_eq!(watch.next(), "runs/one: 10/40");
    // Twenty steps of this process took 30 seconds.
    log(dir, "one", &step(30).replace("15.0", "30.0").replace(":15,", ":30,"));
    let line = watch.next();
    assert!(
        line.starts_with("runs/one: 30/40, loss 1.250, 15s left") || line.contains(" 14s left"),
        "{line}"
    );
    log(dir, "one", "{\"event\":\"stop\"}\n");
    assert_eq!(watch.next(), "runs/one: stopped after step 30 of 40; the same command goes on");
    // Ctrl-C ends it well.
    // SAFETY: a plain system call on a child of ours that was not waited for.
    unsafe { libc::kill(watch.child.id() as i32, libc::SIGINT) };
    assert_eq!(watch.end(), (vec![], Some(0)));
}

#[test]
fn a_log_may_be_away_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    log(dir, "one", BEGUN);
    log(dir, "two", BEGUN);
    let mut watch = Watch::start(dir, "report --follow=0s runs");
    assert_eq!([watch.next(), watch.next()], ["one: 0/40", "two: 0/40"]);
    fs::rename(dir.join("runs/one/log.jsonl"), dir.join("away")).unwrap();
    assert_eq!(watch.next(), "one: its log is gone");
    fs::rename(dir.join("away"), dir.join("runs/one/log.jsonl")).unwrap();
    assert_eq!(watch.next(), "one: 0/40");
    log(dir, "one", DONE);
    assert!(watch.next().starts_with("one: done, 40 steps"));
    log(dir, "two", "{\"event\":\"fail\",\"cause\":\"no\\nroom\\u001b[31m\"}\n");
    assert_eq!(watch.next(), "two: failed after step 0 of 40: no room [31m");
    assert_eq!(watch.end(), (vec![], Some(0)));
}

/// On a terminal lines are drawn again in their place, no wider than it is.
#[test]
fn on_a_terminal_lines_are_redrawn() {
    if shell(Path::new("/"), "command -v script").output().unwrap().stdout.is_empty() {
        common::skipped("no `script` to draw on a terminal with; apt install bsdutils");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    log(dir, "a-long-name-of-a-folder/ag/base/full/0", &(BEGUN.to_owned() + &step(10)));
    log(dir, "tapt", &(BEGUN.to_owned() + &step(20)));
    let mut watch =
        Watch::start(dir, "script -qec 'stty cols 60 rows 24; report --follow=0s runs' /dev/null");
    let mut text = String::new();
    let drawn = "…/ag/base/full/0  10/40  loss 1.250  ";
    while !text.contains(drawn) {
        let mut bytes = watch.lines.fill_buf().unwrap().to_vec();
        assert!(!bytes.is_empty(), "{text}");
        watch.lines.consume(bytes.len());
        // A letter may be cut in two.
        bytes.retain(|byte| *byte != 0);
        text += &String::from_utf8_lossy(&bytes);
    }
    assert!(!text.contains("1.20 GB"), "{text}");
    for name in ["a-long-name-of-a-folder/ag/base/full/0", "tapt"] {
        log(dir, name, DONE);
    }
    let (rest, status) = watch.end();
    let rest = rest.concat();
    let done = rest.matches("done, 40 steps in 22 s, macro-F1 87.00 at step 20, 1.20 GB").count();
    assert_eq!((done, status), (2, Some(0)), "{rest}");
}

/// What the trainers write is what is read.
#[cfg(feature = "torch")]
#[test]
fn trainers_are_followed() {
    let dir = common::sample();
    let dir = dir.path();
    let train = "pretrain --from-scratch config.json --tokenizer tok --steps 4 --log-every 1 --device cpu -q -o runs/base train.tok";
    fs::create_dir(dir.join("runs")).unwrap();
    let mut watch = Watch::start(dir, "report --follow=10m runs");
    common::run(dir, &format!("{train} --time-limit 0s || test $? = 75; {train}"));
    let said = shell(
        dir,
        "finetune --model runs/base --train train.tok --lr 1e30 --clip 0 --warmup 0 --steps 40 --log-every 1 --schedule constant -q -o runs/ag/base/full/0",
    );
    assert_eq!({ said }.output().unwrap().status.code(), Some(1));
    let mut lines = Vec::new();
    let ends = ["base: done, 4 steps in ", "ag/base/full/0: failed after step "];
    let is_there =
        |lines: &[String], end: &str| lines.iter().any(|line: &String| line.starts_with(end));
    while !ends.iter().all(|end| is_there(&lines, end)) {
        lines.push(watch.next());
        assert!(lines.last().is_some_and(|line| !line.is_empty()), "{lines:?}");
    }
    // SAFETY: as above.
    unsafe { libc::kill(watch.child.id() as i32, libc::SIGTERM) };
    assert_eq!(watch.end().1, Some(0));
    let log = fs::read_to_string(dir.join("runs/base/log.jsonl")).unwrap();
    assert!(log.contains("{\"event\":\"stop\"}"), "{log}");
    let steps = log.lines().filter(|line| line.contains("\"event\":\"step\""));
    let done = log.lines().last().unwrap();
    assert!(steps.chain([done]).all(|line| line.contains("\"max_rss\":")), "{log}");
    assert!(!log.contains("max_memory_allocated"), "{log}");
}
