//! What docs/ says: the tutorial runs as it stands, examples are taken, files and links are there.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;

use common::{bin, both, root, run, shell};

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The blocks of a kind, in order.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let opening = format!("```{kind}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// From an empty folder, with nothing but what `make install` gives, and a model.
#[test]
fn the_tutorial_runs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("config.json"), common::TINY).unwrap();
    run(
        dir,
        "prep sample --split general --limit 2000 --train-tokenizer 500 -q -o model
         prep sample --split test --limit 50 --tokenizer model -q -o some.tok
         pretrain --from-scratch config.json --tokenizer model --steps 2 -q -o model some.tok",
    );
    let install = format!("BIN={} {}/scripts/install $PWD/usr", bin().display(), root().display());
    run(dir, &install);
    let tutorial = read("docs/tutorial.md");
    let blocks = blocks(&tutorial, "sh");
    assert!(blocks.len() > 5, "the tutorial has {} blocks of commands", blocks.len());
    let folder = dir.join("tickets");
    fs::create_dir(&folder).unwrap();
    fs::write(dir.join("tutorial.sh"), format!("set -euo pipefail\n{}", blocks.concat())).unwrap();
    let path = "PATH=$PWD/../usr/bin:/usr/local/bin:/usr/bin:/bin";
    let output = run(&folder, &format!("{path} MODEL=../model LR=1e-3 bash ../tutorial.sh"));
    assert!(output.contains("\ntickets  tapt          1  "), "{output}");
    assert!(output.contains("\nepochs  batch  seeds  accuracy"), "{output}");
    let answers = output.lines().filter(|line| line.starts_with("{\"label\":"));
    assert_eq!(answers.count(), 3, "{output}");
}

#[test]
fn the_example_of_an_entry_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let extending = read("docs/extending.md");
    let [entry] = blocks(&extending, "json")[..] else { panic!("one entry is shown") };
    fs::write(dir.path().join("own.json"), format!("[{entry}]")).unwrap();
    let listed = run(dir.path(), "prep --list --catalog own.json");
    assert!(listed.starts_with("reviews\n"), "{listed}");
    let unknown = entry.replace("\"label\":", "\"lable\":");
    fs::write(dir.path().join("own.json"), format!("[{unknown}]")).unwrap();
    let refused = shell(dir.path(), "prep --list --catalog own.json").output().unwrap();
    assert!(!refused.status.success() && both(&refused).contains("lable"), "{}", both(&refused));
}

#[test]
fn what_extending_names_is_there() {
    let extending = read("docs/extending.md");
    let named = extending.split('`').skip(1).step_by(2).filter(|name| {
        let (file, capitals) = (name.contains('/'), name.contains(char::is_uppercase));
        file && !capitals && !name.contains(' ')
    });
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(root().join(name).exists(), "docs/extending.md: {name}");
    }
    for (file, name) in [
        ("src/model/mod.rs", "pub fn architecture("),
        ("src/peft/mod.rs", "pub enum Choice"),
        ("src/peft/mod.rs", "pub fn from_adapterhub("),
        ("src/peft/mod.rs", "pub fn from_config("),
        ("tests/parity.rs", "const ARCHITECTURES"),
        ("tests/training.rs", "const METHODS"),
        ("tests/gradients.rs", "const METHODS"),
    ] {
        assert!(read(file).contains(name), "docs/extending.md speaks of {name} in {file}");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.chain([root().join("README.md"), root().join("CHANGELOG.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || file.is_empty() {
                continue;
            }
            seen += 1;
            assert!(page.parent().unwrap().join(file).exists(), "{}: {link}", page.display());
        }
    }
    assert!(seen > 20, "{seen} links");
}
