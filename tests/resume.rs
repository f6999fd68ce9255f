//! A run that was stopped or killed, and run again, ends with the bytes of one that was not.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{run, sample, shell};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

const PRETRAIN: &str = "exec pretrain --from-scratch config.json --tokenizer tok --epochs 3 --batch 8 --log-every 1 \
     --save-every 1 --device cpu -q -o OUT train.tok";
const FINETUNE: &str = "exec finetune --model base --train train.tok --eval validation.tok --epochs 4 --batch 8 \
     --log-every 1 --save-every 1 --device cpu -q --method METHOD -o OUT";

fn steps(log: &Path) -> usize {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| line.contains("\"event\":\"save\"")).count()
}

/// Waits for what must happen.
fn patiently(mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing happens");
        sleep(Duration::from_millis(3));
    }
}

/// Waits until the run has saved `wanted` times, or is over.
fn wait(child: &mut Child, log: &Path, wanted: usize) {
    patiently(|| steps(log) >= wanted || child.try_wait().unwrap().is_some());
}

fn start(dir: &Path, command: &str) -> Child {
    shell(dir, command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs `command`, interrupted with each of `signals` after some steps, to its end.
fn interrupted(dir: &Path, command: &str, out: &str, signals: &[i32]) -> Vec<Option<i32>> {
    let log = dir.join(out).join("log.jsonl");
    let mut codes = Vec::new();
    for signal in signals {
        let before = steps(&log);
        let mut child = start(dir, command);
        wait(&mut child, &log, before + 3);
        // SAFETY: a plain system call on a child of ours that was not waited for.
        unsafe { libc::kill(child.id() as i32, *signal) };
        codes.push(child.wait().unwrap().code());
    }
    run(dir, command);
    codes
}

fn same(dir: &Path, a: &str, b: &str) {
    let (a, b) = (fs::read(dir.join(a)).unwrap(), fs::read(dir.join(b)).unwrap());
    assert!(a == b, "the weights differ");
}

#[test]
fn pretrain_killed_and_stopped() {
    let dir = sample();
    let dir = dir.path();
    run(dir, &PRETRAIN.replace("OUT", "whole"));
    let codes = interrupted(
        dir,
        &PRETRAIN.replace("OUT", "parts"),
        "parts",
        &[libc::SIGKILL, libc::SIGTERM, libc::SIGKILL],
    );
    assert_eq!(codes, [None, Some(75), None]);
    same(dir, "whole/model.safetensors", "parts/model.safetensors");
    assert!(!dir.join("parts/state").exists());
    let log = fs::read_to_string(dir.join("parts/log.jsonl")).unwrap();
    assert_eq!(log.matches("\"event\":\"resume\"").count(), 3, "{log}");
}

#[test]
fn finetune_killed_and_stopped() {
    let dir = sample();
    let dir = dir.path();
    run(dir, &PRETRAIN.replace("OUT", "base"));
    for (method, file) in [("full", "model.safetensors"), ("lora", "adapter_model.safetensors")] {
        let command = FINETUNE.replace("METHOD", method);
        let (whole, parts) = (format!("{method}-whole"), format!("{method}-parts"));
        run(dir, &command.replace("OUT", &whole));
        let codes = interrupted(
            dir,
            &command.replace("OUT", &parts),
            &parts,
            &[libc::SIGTERM, libc::SIGKILL],
        );
        assert_eq!(codes, [Some(75), None]);
        same(dir, &format!("{whole}/{file}"), &format!("{parts}/{file}"));
    }
}

/// Whatever it does at that moment: start, train, save, or move its files in. `KILLS` says how often, 50 times if not.
#[test]
fn killed_at_any_moment() {
    let dir = sample();
    let dir = dir.path();
    run(dir, &PRETRAIN.replace("OUT", "base"));
    let command = FINETUNE.replace("METHOD", "full --keep 2").replace("--epochs 4", "--epochs 12");
    run(dir, &command.replace("OUT", "whole"));
    let parts = command.replace("OUT", "parts");
    let kills = std::env::var("KILLS").map_or(50, |kills| kills.parse().unwrap());
    let mut random = StdRng::seed_from_u64(7);
    let (mut killed, mut ended) = (0, 0);
    while killed < kills || ended == 0 {
        let mut child = start(dir, &parts);
        sleep(Duration::from_millis(random.random_range(0..900)));
        let signal =
            [libc::SIGKILL, libc::SIGKILL, libc::SIGTERM, libc::SIGINT][random.random_range(0..4)];
        if child.try_wait().unwrap().is_none() && killed < kills {
            // SAFETY: a plain system call on a child of ours that was not waited for.
            unsafe { libc::kill(child.id() as i32, signal) };
            killed += 1;
        }
        let status = child.wait().unwrap();
        // Killed, stopped with its state saved, stopped before it listens to signals, or done: never failed by itself.
        let fine = [None, Some(0), Some(75)].contains(&status.code());
        assert!(fine, "after {killed} kills it ends with {status}");
        kept_whole(dir, "parts", "whole", 2);
        if status.success() {
            same(dir, "whole/model.safetensors", "parts/model.safetensors");
            assert_eq!(run(dir, "cd parts; ls -AR"), run(dir, "cd whole; ls -AR"));
            run(dir, "for step in whole/step-*; do diff -r $step parts/${step#whole/}; done");
            fs::remove_dir_all(dir.join("parts")).unwrap();
            ended += 1;
        }
    }
}

/// There are at most so many kept models in a run's directory, and each has the files that those of a whole run have.
fn kept_whole(dir: &Path, parts: &str, whole: &str, most: usize) {
    let files =
        |out: &str| run(dir, &format!("for s in $(ls -d {out}/step-*); do ls -A $s | xargs; done"));
    let (seen, wanted) = (files(parts), files(whole));
    assert!(seen.lines().count() <= most, "{seen}");
    assert!(seen.lines().all(|of| Some(of) == wanted.lines().next()), "{seen}\n{wanted}");
}

/// What the guard of a run measured, and the loss it began with, at every evaluation.
fn guarded(dir: &Path, out: &str) -> Vec<(f64, f64)> {
    let log = fs::read_to_string(dir.join(out).join("log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let guards = events.filter(|event| event["event"] == "guard");
    guards.map(|event| ["nats", "before"].map(|key| event[key].as_f64().unwrap()).into()).collect()
}

/// The loss at the start is in the state, and so are the weights that had not forgotten too much.
#[test]
fn guarded_and_kept_killed_and_stopped() {
    let dir = sample();
    let dir = dir.path();
    run(dir, &PRETRAIN.replace("OUT", "base"));
    run(dir, "prep sample --split general --limit 50 --tokenizer tok -q | mask > general.bin");
    let command = PRETRAIN.replace("--from-scratch config.json --tokenizer tok", "--model base");
    let command =
        format!("{command} --lr 1 --warmup 39 --guard general.bin --eval-every 2 --keep 2");
    run(dir, &command.replace("OUT", "free"));
    let rises: Vec<f64> = guarded(dir, "free").iter().map(|(nats, before)| nats - before).collect();
    let most = rises.iter().copied().fold(f64::NAN, f64::max);
    // The rate rises until nothing is left of what the model knew: between its first evaluation and its worst.
    assert!(rises[1] < most, "{rises:?}");
    let command = format!("{command} --guard-limit {}", (rises[1].max(0.0) + most) / 2.0);
    run(dir, &command.replace("OUT", "whole"));
    let signals = [libc::SIGKILL, libc::SIGTERM];
    interrupted(dir, &command.replace("OUT", "parts"), "parts", &signals);
    for out in ["whole", "parts"] {
        let log = fs::read_to_string(dir.join(out).join("log.jsonl")).unwrap();
        assert!(log.contains("\"ended_by\":\"guard\""), "{log}");
        let seen = guarded(dir, out);
        assert!(seen.iter().all(|(_, before)| *before == seen[0].1), "{seen:?}");
    }
    same(dir, "whole/model.safetensors", "parts/model.safetensors");
    kept_whole(dir, "parts", "whole", 2);
    run(dir, "for step in whole/step-*; do diff -r $step parts/${step#whole/}; done");
}

/// Several labels a text, and numbers.
#[test]
fn other_problems_killed_and_stopped() {
    let dir = sample();
    let dir = dir.path();
    run(dir, &PRETRAIN.replace("OUT", "base"));
    let number = r#"{ sub(/"label":"[^"]*"/, "\"label\":" NR % 7 / 4); print }"#;
    for (problem, rows) in [("multi-label", "cat"), ("regression", &format!("awk '{number}'"))] {
        for split in ["train", "validation"] {
            let rows = format!("prep sample --split {split} --limit 100 --jsonl -q | {rows}");
            run(dir, &format!("{rows} | prep - --{problem} --tokenizer tok -q -o {split}.tok"));
        }
        let command = FINETUNE.replace("METHOD", "full");
        let (whole, parts) = (format!("{problem}-whole"), format!("{problem}-parts"));
        run(dir, &command.replace("OUT", &whole));
        let codes = interrupted(dir, &command.replace("OUT", &parts), &parts, &[libc::SIGTERM]);
        assert_eq!(codes, [Some(75)]);
        same(dir, &format!("{whole}/model.safetensors"), &format!("{parts}/model.safetensors"));
    }
}

/// What evaluations have made of the learning rate, and how often they were no better, is in the state.
#[test]
fn finetune_on_a_plateau_killed_and_stopped() {
    let dir = sample();
    let dir = dir.path();
    run(dir, &PRETRAIN.replace("OUT", "base"));
    let flags = "--method full --lr 1e-3 --eval-every 2 --schedule reduce_lr_on_plateau --plateau-patience 0 \
                 --plateau-factor 0.5 --metric loss --layer-decay 0.9 --head-lr 5e-3";
    let command = FINETUNE.replace("--method METHOD", flags);
    run(dir, &command.replace("OUT", "whole"));
    let codes = interrupted(
        dir,
        &command.replace("OUT", "parts"),
        "parts",
        &[libc::SIGTERM, libc::SIGKILL, libc::SIGTERM],
    );
    assert_eq!(codes, [Some(75), None, Some(75)]);
    same(dir, "whole/model.safetensors", "parts/model.safetensors");
    let log = fs::read_to_string(dir.join("whole/log.jsonl")).unwrap();
    assert!(log.contains("\"lr\":0.0005"), "the rate was never cut: {log}");
}

/// Whether a signal was sent and no thread has taken it, as Linux shows it.
fn is_pending(child: &Child, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    bits.is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
}

/// Bytes that wait in a pipe to be read.
fn unread(pipe: &ChildStdin) -> i32 {
    let mut count = 0;
    // SAFETY: the descriptor is open, and FIONREAD writes one int.
    assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) }, 0);
    count
}

/// The trainer waits for the last byte of an epoch, so the end of a step cannot be what ends it.
#[test]
fn the_second_signal_ends_at_once() {
    let dir = sample();
    let dir = dir.path();
    run(dir, "mask --epochs 3 train.tok > three.bin");
    let stream = fs::read(dir.join("three.bin")).unwrap();
    let (begin, rest) = stream.split_at(stream.len() - 2);
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let out = format!("ended-{code}");
        let mut command = Command::new(common::bin().join("pretrain"));
        command.args(["--from-scratch", "config.json", "--tokenizer", "tok", "-q", "-o", &out]);
        let mut child = command.current_dir(dir).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(begin).unwrap();
        // It trains on the first epoch; a byte that is read after that is one of the third, and it is not whole.
        let log = dir.join(&out).join("log.jsonl");
        patiently(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("\"event\":\"run\"")));
        pipe.write_all(&rest[..1]).unwrap();
        patiently(|| unread(&pipe) == 0);

        // SAFETY: a plain system call on a child of ours that was not waited for.
        let send = |child: &Child| unsafe { libc::kill(child.id() as i32, signal) };
        send(&child);
        patiently(|| !is_pending(&child, signal));
        assert_eq!(child.try_wait().unwrap(), None, "the first signal ended it");
        // Two that are pending at once count as one, so more than one may be needed.
        patiently(|| {
            send(&child);
            child.try_wait().unwrap().is_some()
        });
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

/// The same masks, the same order, the same weights: through the pipe, from a file, or masked inside.
#[test]
fn a_masked_stream_trains_to_the_same_bits() {
    let dir = sample();
    let dir = dir.path();
    let common = "--from-scratch config.json --tokenizer tok --batch 8 --seed 5 --device cpu -q";
    for masking in ["--unit token", "--unit word --exact", "--unit span"] {
        let mask = format!("mask --epochs 2 --seed 5 {masking} --threads 1 train.tok");
        run(dir, &format!("pretrain {common} --epochs 2 {masking} -o plain train.tok"));
        run(dir, &format!("{mask} | pretrain {common} -o pipe"));
        run(dir, &format!("{mask} > train.bin; pretrain {common} -o file train.bin"));
        same(dir, "plain/model.safetensors", "pipe/model.safetensors");
        same(dir, "plain/model.safetensors", "file/model.safetensors");
    }
}

#[test]
fn other_settings_start_afresh_and_say_so() {
    let dir = sample();
    let dir = dir.path();
    let command = PRETRAIN.replace("OUT", "out").replace("-q ", "");
    let mut child = start(dir, &command);
    wait(&mut child, &dir.join("out/log.jsonl"), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = shell(dir, &format!("{command} --lr 1e-3")).output().unwrap();
    assert!(common::both(&output).contains("starts afresh"), "{}", common::both(&output));
}

/// A state computed in other numbers is not lost to a machine that chooses otherwise.
#[test]
fn other_numbers_are_refused_and_say_so() {
    let dir = sample();
    let dir = dir.path();
    let command = PRETRAIN.replace("OUT", "out") + " --dtype bf16";
    let mut child = start(dir, &command);
    wait(&mut child, &dir.join("out/log.jsonl"), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = shell(dir, &command.replace("bf16", "f32")).output().unwrap();
    let said = common::both(&output);
    assert!(!output.status.success() && said.contains("--dtype bf16 goes on with it"), "{said}");
    run(dir, &command);
    run(dir, &command.replace("-o out", "-o whole"));
    same(dir, "whole/model.safetensors", "out/model.safetensors");
}

/// How often to write things down makes no other run of it.
#[test]
fn other_intervals_go_on() {
    let dir = sample();
    let dir = dir.path();
    let command = PRETRAIN.replace("OUT", "out").replace("-q ", "");
    let mut child = start(dir, &command);
    wait(&mut child, &dir.join("out/log.jsonl"), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = shell(dir, &format!("{command} --save-every 50 --log-every 7")).output().unwrap();
    assert!(common::both(&output).contains("resumes after step"), "{}", common::both(&output));
}

#[test]
fn two_runs_in_one_directory() {
    let dir = sample();
    let dir = dir.path();
    let command = PRETRAIN.replace("OUT", "out").replace("--epochs 3", "--epochs 500");
    let mut first = start(dir, &command);
    wait(&mut first, &dir.join("out/log.jsonl"), 1);
    let second = shell(dir, &command).output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        common::both(&second).contains("another run is writing here"),
        "{}",
        common::both(&second)
    );
}
