//! `scripts/sweep`: every run once, whatever stops or fails, and a table in order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{both, root, run, shell};

/// Shards of the sample, and a tiny base.
fn toy() -> tempfile::TempDir {
    let dir = common::sample();
    run(
        dir.path(),
        "pretrain --from-scratch config.json --tokenizer tok --steps 2 -q -o base train.tok
         mask validation.tok > dev.bin",
    );
    dir
}

fn command(what: &str) -> String {
    format!("exec {}/scripts/{what}", root().display())
}

fn sweep(dir: &Path, what: &str) -> Output {
    shell(dir, &command(&format!("sweep {what}"))).output().unwrap()
}

/// A sweep that must end so; what it wrote.
fn ends(dir: &Path, what: &str, status: i32) -> (String, String) {
    let output = sweep(dir, what);
    assert_eq!(output.status.code(), Some(status), "sweep {what}\n{}", both(&output));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

const FINETUNE: &str = "finetune --model base --train train.tok --steps 4";

/// How often each run began, below `out`: the number of `run` events.
fn began(dir: &Path, out: &str) -> usize {
    let count = format!("cat {out}/base/*/*/log.jsonl | grep -c '\"event\":\"run\"'");
    run(dir, &count).trim().parse().unwrap()
}

#[test]
fn every_combination_is_run_once_and_the_table_is_in_order() {
    let dir = toy();
    let dir = dir.path();
    let grid = format!(
        "-j 2 -o grid --eval validation.tok lr=1e-4,5e-3 method=full,lora seed=0,1 -- {FINETUNE}"
    );
    let (table, said) = ends(dir, &grid, 0);
    assert_eq!((began(dir, "grid"), said.lines().count()), (8, 8), "{said}");
    let lora = dir.join("grid/base/lr=1e-4,method=lora/1");
    assert!(lora.join("adapter_model.safetensors").exists());
    assert!(lora.join("predictions.jsonl").exists(), "for report to hold runs against each other");
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let head = |row: &[&str]| row.iter().filter(|cell| !cell.is_empty()).take(4).count();
    assert_eq!((rows.len(), head(&rows[0])), (5, 4), "{table}");

    let tsv = fs::read_to_string(dir.join("grid/table.tsv")).unwrap();
    let column = |name: &str| {
        let at = tsv.lines().next().unwrap().split('\t').position(|key| key == name).unwrap();
        tsv.lines().skip(1).map(|row| row.split('\t').nth(at).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(column("seeds"), ["2"; 4], "{tsv}");
    let scores: Vec<f64> = column("accuracy").iter().map(|cell| cell.parse().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{tsv}");
    // The mean over seeds, from the files themselves.
    for (row, mean) in tsv.lines().skip(1).zip(&scores) {
        let [lr, method] = row.split('\t').take(2).collect::<Vec<_>>()[..] else { panic!("{row}") };
        let of = |seed: u8| {
            let score = dir.join(format!("grid/base/lr={lr},method={method}/{seed}/score.json"));
            let score = fs::read_to_string(score).unwrap();
            let score: serde_json::Value = serde_json::from_str(&score).unwrap();
            score["scores"]["accuracy"].as_f64().unwrap()
        };
        assert!(((of(0) + of(1)) / 2.0 - mean).abs() < 1e-5, "{row}");
    }
    let (_, said) = ends(dir, &grid, 0);
    assert_eq!(
        (began(dir, "grid"), said),
        (8, "sweep: every run of 4 settings is scored\n".into())
    );
    // More of it: what is there stays.
    ends(dir, &grid.replace("5e-3", "5e-3,1e-3"), 0);
    assert_eq!(began(dir, "grid"), 12);
    let (by_loss, _) = ends(dir, &format!("--by loss {grid}"), 0);
    assert_eq!(by_loss.split_whitespace().nth(3), Some("loss"), "{by_loss}");
    let report = run(dir, "report grid");
    assert!(report.contains("lr=1e-4,method=lora      2"), "{report}");

    // Newer data make old runs anew, other flags want a place of their own.
    sleep(Duration::from_millis(1100));
    run(dir, "touch validation.tok");
    ends(dir, &grid, 0);
    assert_eq!(began(dir, "grid"), 12, "scored anew, not trained");
    run(dir, "touch train.tok");
    ends(dir, &grid, 0);
    assert_eq!(began(dir, "grid"), 20);
    let (_, said) = ends(dir, &grid.replace("--steps 4", "--steps 5"), 2);
    assert!(said.contains("grid has runs of another command"), "{said}");
}

/// Stopped when a trainer has saved, and killed; with the bytes of an uninterrupted one in the end.
#[test]
fn a_stopped_sweep_goes_on() {
    let dir = toy();
    let dir = dir.path();
    let what = |out: &str| {
        format!(
            "-j 2 -o {out} --eval validation.tok lr=1e-4,1e-3 seed=0,1 -- \
             finetune --model base --train train.tok --steps 150 --save-every 1 --log-every 1"
        )
    };
    ends(dir, &what("whole"), 0);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut child = shell(dir, &command(&format!("sweep {}", what("parts"))));
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let logs =
            "grep -rhc '\"event\":\"save\"' parts/base --include log.jsonl | paste -sd+ | bc";
        let saves = || run(dir, &format!("({logs}) 2> /dev/null || echo 0")).trim().parse::<u64>();
        let before = saves().unwrap_or(0);
        while saves().unwrap_or(0) < before + 2 {
            assert!(child.try_wait().unwrap().is_none(), "it was over before it was stopped");
            sleep(Duration::from_millis(5));
        }
        // SAFETY: a plain system call on a child that was not waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        assert_eq!(child.wait().unwrap().code(), Some(75));
        // None of its trainers is left: their locks are free.
        run(dir, "for lock in parts/base/*/*/.lock; do flock -n $lock true; done");
    }
    ends(dir, &what("parts"), 0);
    let same = "cd whole/base && find . -name model.safetensors | tee ../../names | xargs -I{} cmp {} ../../parts/base/{}";
    run(dir, same);
    assert_eq!(fs::read_to_string(dir.join("names")).unwrap().lines().count(), 4);
    let resumed = run(dir, "cat parts/base/*/*/log.jsonl | grep -c '\"event\":\"resume\"'");
    assert_ne!(resumed.trim(), "0", "no trainer went on from a state");
}

#[test]
fn a_failed_run_is_named_and_the_rest_goes_on() {
    let dir = toy();
    let dir = dir.path();
    let what = format!("-o some --eval validation.tok rank=2,100000 method=lora -- {FINETUNE}");
    let (table, said) = ends(dir, &what, 1);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(said.contains("rank=100000,method=lora/0: failed: finetune: "), "{said}");
    assert!(
        said.ends_with("1 failed; what they said is in the file messages of their directories\n")
    );
    let (_, again) = ends(dir, &what, 1);
    assert!(again.contains("rank=100000") && !again.contains("rank=2,"), "{again}");

    // One that is killed, as where memory is short, says nothing itself.
    run(dir, "mkdir bin; printf '#!/bin/sh\nkill -9 $$\n' > bin/finetune; chmod +x bin/finetune");
    let what = format!("-o killed --eval validation.tok rank=2,4 -- bin/{FINETUNE}");
    let (table, said) = ends(dir, &what, 1);
    assert_eq!(table, "");
    assert!(said.contains("sweep: rank=4/0: failed: with exit code 137\n"), "{said}");
    // So does a name that is too long for a directory.
    let what =
        format!("-o long --eval validation.tok targets={},x -- bin/{FINETUNE}", "y".repeat(300));
    let (_, said) = ends(dir, &what, 1);
    assert!(said.contains("sweep: 2 failed"), "{said}");
}

/// Draws are the same at every call, within their ranges, and the first of more.
#[test]
fn draws_are_in_range_and_go_on_where_fewer_ended() {
    let dir = common::sample();
    let drawn = |more: &str| {
        let axes = "lr=1e-5..1e-3 rank=2..8 dropout=0..0.5 'targets=query;query,value' bias=on,off";
        let what = format!("-n -o out --eval train.tok {more} {axes} -- finetune");
        ends(dir.path(), &what, 0).0
    };
    let many = drawn("--random 60");
    assert!(!dir.path().join("out").exists(), "-n writes nothing");
    assert!(many.starts_with(&drawn("--random 20")));
    assert_ne!(many.lines().next(), drawn("--random 1 --seed 1").lines().next());
    let mut ranks = [0; 9];
    let (mut low, mut both, mut bare) = (0, 0, 0);
    for line in many.lines() {
        let value = |flag: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(flag)).unwrap();
            word.replace('\\', "")
        };
        let lr: f64 = value("--lr=").parse().unwrap();
        assert!((1e-5..=1e-3).contains(&lr), "{line}");
        low += u32::from(lr < 1e-4);
        let dropout: f64 = value("--dropout=").parse().unwrap();
        assert!((0.0..=0.5).contains(&dropout), "{line}");
        ranks[value("--rank=").parse::<usize>().unwrap()] += 1;
        both += u32::from(value("--targets=") == "query,value");
        bare += u32::from(line.contains(" --bias "));
    }
    assert_eq!(many.lines().count(), 60);
    assert!(ranks[2..].iter().all(|times| *times > 0) && ranks[2] > ranks[8], "{ranks:?}");
    assert!([low, both, bare].iter().all(|times| (15..=45).contains(times)), "{low} {both} {bare}");
}

#[test]
fn shares_of_an_array_are_the_whole() {
    let dir = toy();
    let dir = dir.path();
    let what = "-o mlm --no-weights --tensorboard --eval dev.bin lr=1e-4,1e-3,1e-2 -- pretrain --model base --steps 2 train.tok";
    let array = format!("SWEEP={}/scripts/sweep SLURM_ARRAY_TASK_MIN=1", root().display());
    for task in [1, 2] {
        let task = format!("export {array} SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_ID={task}");
        run(dir, &format!("{task}; {}", command(&format!("sweep.slurm {what}"))));
    }
    assert_eq!(began(dir, "mlm"), 3);
    let (table, _) = ends(dir, what, 0);
    assert_eq!((began(dir, "mlm"), table.lines().count()), (3, 4));
    assert!(table.starts_with("lr    seeds  nats"), "{table}");
    assert_eq!(run(dir, "find mlm -name '*.safetensors'"), "");
    assert_eq!(run(dir, "ls mlm/base/*/0/events.out.tfevents.* | wc -l").trim(), "3");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = common::sample();
    let wrong = [
        ("--eval train.tok lr=1 -- finetune", "no -o DIR"),
        ("-o out lr=1 -- finetune", "no --eval SHARD"),
        ("-o out --eval none.tok lr=1 -- finetune", "none.tok: no such file"),
        ("-o out --eval train.tok -- finetune", "nothing varies"),
        ("-o out --eval train.tok lr=1", "no trainer"),
        ("-o out --eval train.tok lr=1 -- evaluate", "evaluate: finetune or pretrain is wanted"),
        ("-o out --eval train.tok lr=1 -- finetune -o x", "-o: every run has a directory"),
        ("-o out --eval train.tok lr=1,2 lr=3 -- finetune", "lr is given twice"),
        ("-o out --eval train.tok lr=1..2 -- finetune", "a range is drawn from"),
        ("-o out --eval train.tok --random 2 lr=2..1 -- finetune", "lr=2..1: is empty"),
        ("-o out --eval train.tok --random 0 lr=1..2 -- finetune", "--random 0"),
        ("-o out --eval train.tok --share 2/2 lr=1 -- finetune", "--share 2/2"),
        ("-o out --eval train.tok --lr=1 -- finetune", "--lr=1: no such flag"),
        ("-o out --eval train.tok output=a -- finetune", "runs have directories of their own"),
    ];
    for (what, cause) in wrong {
        let (table, said) = ends(dir.path(), what, 2);
        assert!(table.is_empty() && said.contains(cause), "{what}\n{said}");
        assert!(said.lines().count() == 2 && said.contains("\nhint: "), "{said}");
    }
    assert!(!dir.path().join("out").exists());
}
