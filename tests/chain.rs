//! The Makefile and the README: what they print runs, and runs only when it must.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{both, root, run, shell};

/// A scratch copy of what the chain needs: the Makefile, the recipes, the programs.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = root();
    run(
        dir.path(),
        &format!(
            "cp {0}/Makefile {0}/README.md . && cp -r {0}/recipes {0}/scripts . && mkdir target && ln -s {1} target/release",
            root.display(),
            common::bin().display()
        ),
    );
    dir
}

/// A project with a tiny model, and recipes that take seconds.
fn toy() -> tempfile::TempDir {
    let dir = project();
    fs::write(dir.path().join("config.json"), common::TINY).unwrap();
    run(
        dir.path(),
        "prep sample --split general --limit 2000 --train-tokenizer 500 -q -o model
         prep sample --split test --limit 50 --tokenizer model -q -o some.tok
         pretrain --from-scratch config.json --tokenizer model --steps 2 -q -o model some.tok",
    );
    dir
}

const GRID: &str = "TASKS=sample SEEDS='0 1' MODEL=model LIMIT=40 STEPS=3";

fn make(dir: &Path, what: &str) -> String {
    let output =
        shell(dir, &format!("make --no-print-directory {GRID} {what} 2>&1")).output().unwrap();
    assert!(output.status.success(), "make {what}\n{}", both(&output));
    both(&output)
}

/// Programs that ran, without their arguments.
fn programs(output: &str) -> Vec<&str> {
    let lines = output.lines().filter_map(|line| line.trim_start().strip_prefix("target/release/"));
    lines.map(|line| line.split(' ').next().unwrap()).collect()
}

fn count(output: &str, program: &str) -> usize {
    programs(output).iter().filter(|name| **name == program).count()
}

#[test]
fn make_runs_what_is_stale_and_nothing_else() {
    let dir = toy();
    let dir = dir.path();
    let printed = make(dir, "-n all");
    if std::env::var_os("GOLDEN").is_some() {
        fs::write(root().join("tests/chain.txt"), &printed).unwrap();
    } else {
        let plan = fs::read_to_string(root().join("tests/chain.txt")).unwrap();
        assert_eq!(printed, plan, "make -n all; GOLDEN=1 rewrites tests/chain.txt");
    }

    let first = make(dir, "all");
    assert_eq!(
        (count(&first, "pretrain"), count(&first, "finetune"), count(&first, "evaluate")),
        (3, 10, 10)
    );
    assert!(first.contains("dapt+tapt"), "{first}");
    let table = fs::read_to_string(dir.join("results.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|'));
    assert_eq!(rows.count(), 7, "{table}");
    assert_eq!(programs(&make(dir, "all")), [""; 0], "a second make does nothing");

    touch(dir, "recipes/lora.args");
    let lora = make(dir, "all");
    assert_eq!(
        (count(&lora, "pretrain"), count(&lora, "finetune"), count(&lora, "evaluate")),
        (0, 2, 2)
    );
    touch(dir, "recipes/tapt.args");
    let tapt = make(dir, "all");
    assert_eq!((count(&tapt, "pretrain"), count(&tapt, "finetune")), (2, 4));
    assert_eq!(
        fs::read_to_string(dir.join("results.md")).unwrap(),
        table,
        "the same runs, the same table"
    );
}

/// Fewer arms or seeds and then more again, another folder, another model, no table at all.
#[test]
fn the_table_is_of_the_last_goal() {
    let dir = toy();
    let dir = dir.path();
    run(dir, "cp -r model other");
    let results = || fs::read_to_string(dir.join("results.md")).unwrap();
    make(dir, "lora");
    let lora = results();
    let table = |what: &str| {
        let ran = make(dir, what);
        (count(&ran, "report"), programs(&ran).len(), results())
    };

    let (_, ran, baseline) = table("baseline");
    assert_eq!(ran, 1, "only report");
    assert!(lora.contains("| lora |") && !baseline.contains("| lora |"), "{lora}{baseline}");
    assert_eq!(table("lora"), (1, 1, lora.clone()), "an arm more");

    let (_, ran, one) = table("lora SEEDS=0");
    assert_eq!(ran, 1, "only report");
    assert_ne!(one, lora);
    assert_eq!(table("lora"), (1, 1, lora.clone()), "a seed more");
    assert_eq!(table("lora SEEDS='1 0'").0, 1, "another order");
    make(dir, "lora");

    for elsewhere in ["OUT=elsewhere", "MODEL=other"] {
        make(dir, &format!("baseline SEEDS=0 {elsewhere}"));
        assert_ne!(results(), lora, "{elsewhere}");
        assert_eq!(table("lora"), (0, 0, lora.clone()), "after {elsewhere}");
    }
    fs::remove_file(dir.join("results.md")).unwrap();
    assert_eq!(table("lora"), (0, 0, lora.clone()), "results.md comes back");
    let written = || fs::metadata(dir.join("results.md")).unwrap().modified().unwrap();
    let before = written();
    make(dir, "lora");
    assert_eq!(written(), before, "a second make does not write the table again");

    fs::remove_file(dir.join("runs/model-limit40-steps3/table.list")).unwrap();
    assert_eq!(table("lora"), (1, 1, lora), "a table of unknown runs");
}

/// The page lies beside the table, and shows hidden states only where they are asked for, of the first seed.
#[test]
fn the_page_lies_beside_the_table() {
    let dir = toy();
    let dir = dir.path();
    let page = || fs::read_to_string(dir.join("results.html")).unwrap();
    make(dir, "tapt");
    let without = page();
    assert!(without.contains("Learning curves") && !without.contains("Hidden states"));
    let predictions = dir.join("runs/model-limit40-steps3/sample/tapt/full/1/predictions.jsonl");
    assert!(predictions.exists(), "predictions beside the score");

    let ran = make(dir, "tapt HIDDEN=20");
    assert_eq!(programs(&ran), ["prep", "embed", "embed", "embed", "embed", "report"], "{ran}");
    let with = page();
    assert!(with.contains("tapt, before fine-tuning") && with.contains("tapt, fine-tuned, seed 0"));
    assert_eq!(programs(&make(dir, "tapt HIDDEN=20")), [""; 0], "a second make does nothing");
    assert_eq!(page(), with);

    fs::remove_file(dir.join("results.html")).unwrap();
    assert_eq!(programs(&make(dir, "tapt")), [""; 0]);
    assert_eq!(page(), with, "results.html comes back");
    fs::remove_file(dir.join("runs/model-limit40-steps3/page.html")).unwrap();
    assert_eq!(programs(&make(dir, "tapt")), ["report"], "the page of older runs");
}

/// Models kept on the way are drawn between before and after; only of the first seed.
#[test]
fn the_page_shows_hidden_states_of_kept_models() {
    let dir = toy();
    let dir = dir.path();
    make(dir, "baseline HIDDEN=20 KEEP=2");
    let runs = dir.join("runs/model-limit40-steps3/sample/base/full");
    let found = run(&runs, "ls -d */step-*; ls */step-*/hidden.safetensors");
    assert_eq!(found, "0/step-000003\n0/step-000003/hidden.safetensors\n");
    let page = fs::read_to_string(dir.join("results.html")).unwrap();
    assert!(page.contains("baseline, seed 0, step 3") && page.contains("on the way"));
    assert!(page.contains("sample: linear probe") && page.contains("CKA with before"));
    assert!(!page.contains("Settings that differ"), "what is kept changes no result");
}

fn touch(dir: &Path, file: &str) {
    // Make compares times; a file system may count them in whole seconds.
    sleep(Duration::from_millis(1100));
    run(dir, &format!("touch {file}"));
}

#[test]
fn what_make_prints_can_be_pasted() {
    let dir = toy();
    let dir = dir.path();
    let printed = make(dir, "-n tapt");
    fs::write(dir.join("pasted.sh"), format!("set -e\n{printed}")).unwrap();
    run(dir, "bash pasted.sh");
    assert!(fs::read_to_string(dir.join("results.md")).unwrap().contains("| tapt |"));
    assert_eq!(programs(&make(dir, "tapt")), [""; 0]);
}

#[test]
fn a_failed_step_leaves_no_target_and_the_next_make_goes_on() {
    let dir = toy();
    let dir = dir.path();
    fs::write(dir.join("recipes/full.args"), "--method full --no-such-flag\n").unwrap();
    let failed = shell(dir, &format!("make baseline {GRID}")).output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    assert!(both(&failed).contains("--no-such-flag"), "{}", both(&failed));
    fs::write(dir.join("recipes/full.args"), "--method full --lr 1e-3\n").unwrap();
    let again = make(dir, "baseline");
    assert_eq!((count(&again, "prep"), count(&again, "finetune")), (1, 2), "{again}");
}

/// With recipes that save at every step, steps enough to be killed among them.
const SAVING: &str = "TASKS=sample SEEDS='0 1' MODEL=model LIMIT=40 STEPS=100";
const PARTS: &str = "parts/model-limit40-steps100/sample";

/// Make and all it runs, killed when the first, the third and the fifth trainer has saved a state.
#[test]
fn a_killed_make_goes_on_to_the_same_table() {
    let dir = toy();
    let dir = dir.path();
    for recipe in ["full", "tapt"] {
        run(dir, &format!("echo '--save-every 1 --log-every 1' >> recipes/{recipe}.args"));
    }
    run(dir, &format!("make tapt OUT=whole {SAVING}"));
    let whole = fs::read_to_string(dir.join("results.md")).unwrap();
    fs::remove_file(dir.join("results.md")).unwrap();
    for trainer in ["base/full/0", "tapt", "tapt/full/1"] {
        kill_after_a_save(dir, trainer);
        assert!(!dir.join("results.md").exists());
    }
    run(dir, &format!("make tapt OUT=parts {SAVING}"));
    assert_eq!(fs::read_to_string(dir.join("results.md")).unwrap(), whole);
    let same = "cd whole && find . -name '*.safetensors' -print0 | xargs -0 -I{} cmp {} ../parts/{} && \
                find . -name '*.safetensors' | wc -l";
    assert_eq!(run(dir, same).trim(), "10", "weights, and the texts each model met");
    let resumed = run(dir, "grep -rh '\"event\":\"resume\"' parts --include log.jsonl | wc -l");
    assert_ne!(resumed.trim(), "0", "no trainer went on from a state");
}

/// Kills a make, with all it started, once a trainer has saved, and waits for the last of them to end.
fn kill_after_a_save(dir: &Path, trainer: &str) {
    let log = dir.join(PARTS).join(trainer).join("log.jsonl");
    let saved = || fs::read_to_string(&log).is_ok_and(|log| log.contains("\"event\":\"save\""));
    let command = format!("exec make tapt OUT=parts {SAVING} 2> /dev/null");
    let mut make = shell(dir, &command).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    while !saved() {
        assert!(make.try_wait().unwrap().is_none(), "make was over before it was killed");
        sleep(Duration::from_millis(5));
    }
    // SAFETY: a plain system call on the process group of a child that was not waited for.
    unsafe { libc::killpg(make.id() as i32, libc::SIGKILL) };
    // The pipe ends with the last process that holds it, and only then a trainer's lock is free.
    io::copy(&mut make.stdout.take().unwrap(), &mut io::sink()).unwrap();
    assert_eq!(make.wait().unwrap().code(), None, "make was over before it was killed");
}

/// `scripts/libtorch` with nothing on the PATH but these, each a link; what it wrote, and its exit code.
fn libtorch(dir: &Path, links: &[(&str, &str)], environment: &[(&str, &str)]) -> (String, i32) {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, program) in [("bash", "bash"), ("dirname", "dirname")].iter().chain(links) {
        run(dir, &format!("ln -sf $(type -P {program}) bin/{name}"));
    }
    let mut script = Command::new(dir.join("scripts/libtorch"));
    script.env_clear().env("PATH", &bin).envs(environment.iter().copied());
    let output = script.current_dir(dir).output().unwrap();
    fs::remove_dir_all(bin).unwrap();
    (both(&output), output.status.code().unwrap())
}

#[test]
fn libtorch_of_ones_own_is_left_alone() {
    let dir = project();
    let tools = [("cargo", "false"), ("c++", "false"), ("python3", "false")];
    for set in [("LIBTORCH", "/opt/libtorch"), ("LIBTORCH_USE_PYTORCH", "1")] {
        assert_eq!(libtorch(dir.path(), &tools, &[set]), (String::new(), 0), "{}", set.0);
        assert!(!dir.path().join(".venv").exists() && !dir.path().join(".libtorch").exists());
    }
}

#[test]
fn what_is_missing_to_build_is_named() {
    let dir = project();
    let tools = [("cargo", "false"), ("c++", "false"), ("python3", "false")];
    let missing = [
        ("cargo", "hint: install Rust with rustup, https://rustup.rs"),
        ("c++", "hint: sudo apt install g++"),
        ("python3", "hint: sudo apt install python3"),
        // This Python fails, whatever it is asked for.
        ("pip", "hint: sudo apt install python3-pip"),
    ];
    for (name, hint) in missing {
        let rest: Vec<(&str, &str)> = tools.into_iter().filter(|(tool, _)| *tool != name).collect();
        let wanted = format!("error: {name} is not installed\n{hint}\n");
        assert_eq!(libtorch(dir.path(), &rest, &[]), (wanted, 1));
        assert!(!dir.path().join(".venv").exists(), "{name}");
    }
}

#[test]
fn a_bench_without_its_peer_says_why() {
    let dir = project();
    let dir = dir.path();
    let python = "mkdir -p .venv/bin && cd .venv/bin && ln -s $(type -P bash) python";
    run(dir, python);
    fs::write(dir.join("scripts/peer_bench.py"), "echo no module named torch >&2; exit 3\n")
        .unwrap();
    let output = shell(dir, "ROUNDS=1 STEPS=1 BATCH=2 scripts/bench").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let wanted = "no module named torch\nbench: .venv/bin/python scripts/peer_bench.py limit failed\n\
         hint: make bench installs what it compares with\n";
    assert!(both(&output).ends_with(wanted), "{}", both(&output));
}

/// Every `sh` block of the README, in order, in one shell.
#[test]
fn readme_commands_run() {
    let dir = project();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 1, "the README has {} blocks of commands", blocks.len());
    fs::write(dir.path().join("readme.sh"), format!("set -euo pipefail\n{}", blocks.concat()))
        .unwrap();
    run(dir.path(), "bash readme.sh");
}

/// Data sets of the names that studies use, a few rows each.
fn study_data(dir: &Path) {
    let rows = |name: &str, row: &dyn Fn(usize) -> String| {
        let file = dir.join("data").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, (0..60).map(row).collect::<String>()).unwrap();
    };
    let text = |i: usize| format!("what number {i} says of {}", ["home", "away", "both"][i % 3]);
    for split in ["train", "validation", "test"] {
        let labelled = |i: usize| format!("{{\"text\": {:?}, \"label\": {}}}\n", text(i), i % 2);
        for name in ["ag_news", "imdb", "rotten_tomatoes"] {
            rows(&format!("{name}/{split}.jsonl"), &labelled);
        }
        let csv = |i: usize| format!("\"{}\",\"title\",\"{}\"\n", i % 4 + 1, text(i));
        rows(&format!("ag_news_csv/{split}.csv"), &csv);
    }
    rows("business_news/train.txt", &|i| text(i) + "\n");
    rows("medical_questions_pairs/train.jsonl", &|i| {
        let (first, second) = (text(i / 2), text(i + 100));
        format!("{{\"question_1\": {first:?}, \"question_2\": {second:?}, \"label\": {}}}\n", i % 2)
    });
}

/// The task and the arm of every row of a study's own table.
fn study(dir: &Path, what: &str) -> Vec<String> {
    run(dir, &format!("make {what} MODEL=model SEEDS=0 LIMIT=40 STEPS=2 -j2"));
    let results = fs::read_to_string(dir.join("results.md")).unwrap();
    let (own, published) = results.split_once("## What the study published").unwrap();
    assert!(published.contains("| --- |"), "{published}");
    let cells =
        |line: &str| line.split('|').skip(1).take(2).map(str::trim).collect::<Vec<_>>().join(" ");
    own.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

#[test]
fn studies_end_in_their_tables() {
    let dir = toy();
    let dir = dir.path();
    study_data(dir);
    let named = |task: &str, arms: &[&str]| -> Vec<String> {
        arms.iter().map(|arm| format!("{task} {arm}")).collect()
    };
    let arms = ["head", "dapt head", "tapt head", "dapt+tapt head"];
    assert_eq!(study(dir, "s0"), named("ag_news_csv", &arms));
    assert_eq!(study(dir, "s1"), ["imdb@256 baseline", "imdb@512 baseline"]);
    let arms =
        ["A", "B-v1", "B-v2", "C-v1", "C-v2", "D-v1", "D-v2", "E-v1", "E-v2", "F-v1", "F-v2"];
    assert_eq!(study(dir, "s2"), named("ag_news", &arms));
    let arms = named("medical_questions_pairs", &["baseline", "head", "tapt", "tapt head"]);
    assert_eq!(study(dir, "s3"), arms);
    assert_eq!(study(dir, "s3 AS_PUBLISHED=1"), arms);
    assert_eq!(
        study(dir, "s4"),
        named("rotten_tomatoes", &["bottleneck", "prefix", "run1", "run2"])
    );

    let arms = ["run1", "run1 run2"];
    assert_eq!(study(dir, "s4 AS_PUBLISHED=1"), named("rotten_tomatoes", &arms));

    let none = shell(dir, "make s0 AS_PUBLISHED=1 MODEL=model").output().unwrap();
    assert!(both(&none).contains("docs/recipes.md says why"), "{}", both(&none));
}

/// What a study is made of reaches the programs: two models, and a split that has no validation.
#[test]
fn a_study_is_a_table_of_each_model() {
    let dir = toy();
    let dir = dir.path();
    let lines = run(dir, "make -n s2 SEEDS=0");
    for model in ["bert-base-uncased", "distilbert-base-uncased", "roberta-base"] {
        assert!(lines.contains(&format!("fetch {model} -o runs/models/{model}\n")), "{lines}");
        assert!(lines.contains(&format!("runs/s2-{model}.md")), "{lines}");
    }
    assert_eq!(lines.matches("finetune @recipes/s2/F-v2.args").count(), 3);
}
