//! Models and data sets of the hub, from a small server on this machine: what is fetched, kept, gone on with, refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod common;
#[path = "common/hub.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server::{COMMIT, Fault, Hub, git, sha256};

/// A hub, and an empty place to work in.
struct Place {
    hub: Hub,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { hub: Hub::start(), dir: tempfile::tempdir().unwrap() }
    }

    /// With a model whose weights are no weights, and a data set.
    fn furnished() -> Self {
        let place = Self::new();
        for (file, bytes) in [
            ("config.json", b"{}".to_vec()),
            ("README.md", b"not wanted".to_vec()),
            ("tokenizer.json", vec![b't'; 5000]),
            ("model.safetensors", (0..300_000_u32).map(|i| (i % 251) as u8).collect()),
        ] {
            place.hub.put("models/org/name", file, bytes);
        }
        place
    }

    fn command(&self, command: &str) -> Command {
        let mut bash = common::shell(self.dir.path(), command);
        for name in ["HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "http_proxy", "HTTP_PROXY"] {
            bash.env_remove(name);
        }
        bash.env("HF_ENDPOINT", &self.hub.endpoint).env("HF_HOME", self.dir.path().join("hf"));
        bash
    }

    fn output(&self, command: &str) -> Output {
        self.command(command).output().unwrap()
    }

    fn run(&self, command: &str) -> String {
        let output = self.output(command);
        assert!(output.status.success(), "{command}\n{}", common::both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that must fail says, the server's address left out.
    fn error(&self, command: &str) -> String {
        let output = self.output(command);
        assert_eq!(output.status.code(), Some(1), "{command}\n{}", common::both(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        let dir = self.dir.path().display().to_string();
        said.replace(&self.hub.endpoint, "HUB").replace(&dir, "DIR")
    }

    fn cache(&self, path: &str) -> PathBuf {
        self.dir.path().join("hf/hub").join(path)
    }
}

const MODEL: &str = "models--org--name";

fn weights(place: &Place) -> Vec<u8> {
    fs::read(place.cache(MODEL).join("snapshots").join(COMMIT).join("model.safetensors")).unwrap()
}

fn is_whole(place: &Place) -> bool {
    weights(place) == (0..300_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>()
}

fn bytes_asked(log: &[String]) -> Vec<&String> {
    log.iter().filter(|line| line.starts_with("GET /store/")).collect()
}

#[test]
fn a_model_lies_as_python_lays_it() {
    let place = Place::furnished();
    let dir = place.run("fetch org/name");
    let snapshot = place.cache(MODEL).join("snapshots").join(COMMIT);
    assert_eq!(dir.trim(), snapshot.display().to_string());
    assert_eq!(fs::read_to_string(place.cache(MODEL).join("refs/main")).unwrap(), COMMIT);
    let link = |file: &str| fs::read_link(snapshot.join(file)).unwrap();
    assert_eq!(link("config.json"), Path::new(&format!("../../blobs/{}", git(b"{}"))));
    let sum = sha256(&weights(&place));
    assert_eq!(link("model.safetensors"), Path::new(&format!("../../blobs/{sum}")));
    assert!(is_whole(&place) && !snapshot.join("README.md").exists());
    // Everything is there: the list is asked for, and nothing else.
    place.hub.log();
    place.run("fetch org/name");
    assert_eq!(place.hub.log(), ["GET /api/models/org/name/revision/main"]);
    assert_eq!(place.run("HF_HUB_OFFLINE=1 fetch org/name"), dir);
    assert!(place.hub.log().is_empty());
}

#[test]
fn a_revision_and_a_tokenizer_alone() {
    let place = Place::furnished();
    place.run("fetch --tokenizer org/name@refs/pr/7");
    assert!(place.hub.log()[0].ends_with("/revision/refs%2Fpr%2F7"));
    assert!(place.cache(MODEL).join("refs/refs/pr/7").exists());
    assert!(!place.cache(MODEL).join("snapshots").join(COMMIT).join("model.safetensors").exists());
}

#[test]
fn links_for_make() {
    let place = Place::furnished();
    for _ in 0..2 {
        assert_eq!(place.run("fetch org/name -o m/base"), "m/base\n");
    }
    assert_eq!(
        fs::read(place.dir.path().join("m/base/model.safetensors")).unwrap(),
        weights(&place)
    );
    fs::write(place.dir.path().join("m/other"), "").unwrap();
    assert!(place.error("fetch org/name -o m/other").contains("m/other"));
}

#[test]
fn what_sentence_transformers_says_comes_along() {
    let place = Place::furnished();
    for file in ["modules.json", "1_Pooling/config.json", "2_Dense/config.json"] {
        place.hub.put("models/org/name", file, file);
    }
    let dir = place.run("fetch org/name");
    let read = |file: &str| fs::read_to_string(Path::new(dir.trim()).join(file)).ok();
    assert_eq!(read("1_Pooling/config.json").unwrap(), "1_Pooling/config.json");
    assert!(read("modules.json").is_some() && read("2_Dense/config.json").is_none());
    for _ in 0..2 {
        place.run("fetch org/name -o m/base");
    }
    let linked = fs::read_to_string(place.dir.path().join("m/base/1_Pooling/config.json"));
    assert_eq!(linked.unwrap(), "1_Pooling/config.json");
}

#[test]
fn a_cut_connection_is_gone_on_from() {
    let place = Place::furnished();
    place.hub.fail("GET /store/", Fault::Cut(100_000), 2);
    place.run("fetch org/name");
    let log = place.hub.log();
    let asked = bytes_asked(&log);
    // The tokenizer's bytes are fewer than are let through; the weights come in three parts.
    assert!(asked.iter().any(|line| line.ends_with("bytes=100000-")), "{log:?}");
    assert!(is_whole(&place));
}

#[test]
fn another_process_goes_on_from_what_came() {
    let place = Place::furnished();
    let sum = sha256(&(0..300_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    place.hub.fail(&format!("GET /store/{sum}"), Fault::Cut(90_000), 1);
    place.hub.fail(&format!("GET /store/{sum}"), Fault::Status(403, ""), 1);
    let said = place.error("fetch org/name");
    assert!(said.contains("org/name/model.safetensors: the hub answers 403"), "{said}");
    assert!(said.contains("hint: what came so far is kept"), "{said}");
    let part = place.cache(MODEL).join(format!("blobs/{sum}.incomplete"));
    assert_eq!(fs::metadata(&part).unwrap().len(), 90_000);
    place.hub.log();
    place.run("fetch org/name");
    let log = place.hub.log();
    assert!(bytes_asked(&log)[0].ends_with("bytes=90000-"), "{log:?}");
    assert!(is_whole(&place) && !part.exists());
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let place = Place::furnished();
    let sum = sha256(&(0..300_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    place.hub.fail(&format!("GET /store/{sum}"), Fault::Cut(50_000), 1);
    place.hub.fail(&format!("GET /store/{sum}"), Fault::Whole, 1);
    place.run("fetch org/name");
    assert!(is_whole(&place));
}

#[test]
fn slow_answers_and_passing_errors_are_waited_for() {
    let place = Place::furnished();
    place.hub.fail("GET /api/", Fault::Status(503, ""), 2);
    place.hub.fail("HEAD ", Fault::Status(500, ""), 1);
    place.hub.fail("GET /store/", Fault::Slow(20_000), 2);
    place.run("fetch org/name");
    assert!(is_whole(&place));
}

#[test]
fn other_bytes_are_thrown_away() {
    let place = Place::furnished();
    place.hub.fail("GET /store/", Fault::Wrong, 99);
    let said = place.error("fetch --tokenizer org/name");
    assert!(said.starts_with("fetch: org/name/tokenizer.json: its checksum is "), "{said}");
    assert!(said.contains("\nhint: try again"), "{said}");
    let blobs = fs::read_dir(place.cache(MODEL).join("blobs")).unwrap();
    let left: Vec<_> = blobs.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [git(b"{}").as_str()]);
    // A part that an earlier version of the file left is not held against this one.
    let place = Place::furnished();
    let sum = sha256(&[b't'; 5000]);
    fs::create_dir_all(place.cache(MODEL).join("blobs")).unwrap();
    fs::write(place.cache(MODEL).join(format!("blobs/{sum}.incomplete")), "other bytes").unwrap();
    place.run("fetch --tokenizer org/name");
}

#[test]
fn git_checksums_are_seen_to() {
    let place = Place::furnished();
    place.hub.fail("GET /org/name/resolve/", Fault::Wrong, 99);
    let said = place.error("fetch --tokenizer org/name");
    assert!(said.starts_with("fetch: org/name/config.json: its checksum is "), "{said}");
}

#[test]
fn a_mirror_without_checksums_is_named() {
    let place = Place::furnished();
    place.hub.fail("HEAD /org/name/resolve/", Fault::Unnamed, 1);
    let output = place.output("fetch -q --tokenizer org/name");
    assert!(output.status.success(), "{}", common::both(&output));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("org/name/config.json: the server gives no checksum"), "{said}");
}

#[test]
fn paths_that_lead_out_are_refused() {
    for bad in ["../../x", "/etc/x", "a/../../x", "a\\..\\x"] {
        let place = Place::furnished();
        place.hub.put("models/org/name", bad, "x");
        let said = place.error("fetch org/name");
        assert!(said.contains("which leads out of it: nothing is downloaded"), "{said}");
        assert!(!place.cache(MODEL).exists());
    }
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let place = Place::furnished();
    place.run("HF_TOKEN=abc fetch org/name");
    let (store, hub): (Vec<_>, Vec<_>) =
        place.hub.log().into_iter().partition(|line| line.starts_with("GET /store/"));
    assert!(hub.iter().all(|line| line.ends_with("Bearer abc")), "{hub:?}");
    assert!(store.len() == 2 && !store.iter().any(|line| line.contains("Bearer")), "{store:?}");
    // What a login left behind.
    fs::write(place.dir.path().join("hf/token"), "def\n").unwrap();
    place.run("fetch org/name");
    assert!(place.hub.log()[0].ends_with("Bearer def"));
}

#[test]
fn refusals_say_what_to_do() {
    let place = Place::furnished();
    for (fault, said) in [
        (
            Fault::Status(401, ""),
            "no such model at HUB, or it is private (401)\nhint: check the name; ",
        ),
        (Fault::Status(404, ""), "no such model at HUB (404)\nhint: check the name; "),
        (Fault::Status(403, ""), "HUB refuses it (403)\nhint: "),
        (
            Fault::Status(403, "GatedRepo"),
            "its authors let in whom they know\nhint: ask for access at HUB/org/name",
        ),
        (Fault::Status(404, "RevisionNotFound"), "has no revision `main`\nhint: see HUB/org/name"),
    ] {
        place.hub.fail("GET /api/", fault, 1);
        let error = place.error("fetch org/name");
        assert!(error.contains(said), "{error}");
    }
    let error = place.error("HF_TOKEN=x fetch org/other");
    assert!(error.contains("hint: check the name, and that HF_TOKEN"), "{error}");
    place.hub.fail("GET /api/", Fault::Status(500, ""), 6);
    let error = place.error("fetch org/name");
    assert!(error.contains("HUB answers 500\nhint: try again later"), "{error}");
}

#[test]
fn offline_and_unreached() {
    let place = Place::furnished();
    let offline = place.error("HF_HUB_OFFLINE=1 fetch org/name");
    let expected = "fetch: org/name: no such directory, and not in the hub's cache\n\
                    hint: HF_HUB_OFFLINE is set: unset it to download\n";
    assert_eq!(offline, expected);
    assert!(place.hub.log().is_empty());
    let gone = "HF_ENDPOINT=http://127.0.0.1:9 fetch org/name";
    let error = place.error(gone);
    assert!(error.contains("http://127.0.0.1:9 is not reached: "), "{error}");
    assert!(error.contains("HF_ENDPOINT=URL names a mirror"), "{error}");
    // What was there when last asked will do.
    let dir = place.run("fetch org/name");
    let output = place.output(gone);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), dir);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("org/name is taken as it was when last asked"), "{said}");
    let part = place.error("HF_HUB_OFFLINE=1 fetch org/name@other");
    assert!(part.contains("org/name@other: no such directory, and not in"), "{part}");
}

#[test]
fn a_part_of_a_model_offline_is_no_model() {
    let place = Place::furnished();
    place.run("fetch --tokenizer org/name");
    let error = place.error("HF_HUB_OFFLINE=1 fetch org/name");
    assert!(
        error.contains("org/name: has no model.safetensors\nhint: the cache has only a part"),
        "{error}"
    );
}

#[test]
fn pickled_and_divided_weights_are_told() {
    let place = Place::furnished();
    place.hub.put("models/org/old", "config.json", "{}");
    place.hub.put("models/org/old", "pytorch_model.bin", "x");
    let error = place.error("fetch org/old");
    assert!(
        error.contains("has no model.safetensors\nhint: it has pytorch_model.bin, but pickle"),
        "{error}"
    );
    for (config, pickle) in
        [("{\"peft_type\": \"LORA\"}", "adapter_model.bin"), ("{}", "pytorch_adapter.bin")]
    {
        let adapter = format!("models/org/{}", pickle.replace('.', "-"));
        place.hub.put(&adapter, "adapter_config.json", config);
        place.hub.put(&adapter, pickle, "x");
        let error = place.error(&format!("fetch org/{}", pickle.replace('.', "-")));
        assert!(
            error.contains(&format!("hint: it has {pickle}, but pickle is not read")),
            "{error}"
        );
    }
    place.hub.put("models/org/big", "model.safetensors.index.json", "{}");
    let error = place.error("fetch org/big");
    assert!(error.contains("hint: its weights are split over several files"), "{error}");
}

#[test]
fn a_full_disk_is_told() {
    let place = Place::furnished();
    let sum = sha256(&[b't'; 5000]);
    let blobs = place.cache(MODEL).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{sum}.incomplete"))).unwrap();
    let error = place.error("fetch --tokenizer org/name");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(
        error.contains("\nhint: what came so far is kept and gone on from; make room"),
        "{error}"
    );
}

#[test]
fn two_at_once_download_once() {
    let place = Place::furnished();
    place.hub.fail("GET /store/", Fault::Slow(20_000), 2);
    place.run("fetch org/name > a & fetch org/name > b; wait; cmp a b");
    let log = place.hub.log();
    assert_eq!(bytes_asked(&log).len(), 2, "{log:?}");
    assert!(is_whole(&place));
}

#[test]
fn prep_and_the_trainers_take_models_of_the_hub() {
    let place = Place::new();
    let made = common::sample();
    for entry in fs::read_dir(made.path().join("tok")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for model in ["org/tok", "distilroberta-base"] {
            place.hub.put(&format!("models/{model}"), &name, fs::read(&path).unwrap());
        }
    }
    let from = |tokenizer: &str| {
        let command = format!("prep sample --split test --limit 9 {tokenizer} -q | peek - -n 0");
        place.run(&command).split("\"tokenizer\":").nth(1).unwrap()[..70].to_owned()
    };
    let local = from(&format!("--tokenizer {}", made.path().join("tok").display()));
    assert_eq!(from("--tokenizer org/tok"), local);
    assert_eq!(from("--tokenizer org/tok@main"), local);
    assert_eq!(from(""), local);
    place.hub.log();
    assert_eq!(from("--tokenizer org/tok").len(), 70);
    let said = place.error("HF_HUB_OFFLINE=1 prep sample --tokenizer org/none");
    assert!(said.starts_with("prep: org/none: no such directory, and not in"), "{said}");
}

const NEWS: &str = "datasets/fancyzhx/ag_news";

/// Rows of AG News' columns.
fn rows(count: usize) -> String {
    (0..count).map(|i| format!("{{\"text\":\"item {i}\",\"label\":{}}}\n", i % 4)).collect()
}

#[test]
fn ag_news_twice_the_second_time_offline() {
    let place = Place::new();
    place.hub.put(NEWS, "data/train.jsonl", rows(100));
    place.hub.put(NEWS, "data/test.jsonl", rows(8));
    place.hub.put(NEWS, "README.md", "not wanted");
    let first = place.run("prep ag_news --jsonl");
    assert_eq!(first.lines().count(), 100);
    assert!(first.starts_with("{\"text\":\"item 0\",\"label\":\"World\",\"row\":0}\n"), "{first}");
    place.hub.log();
    assert_eq!(place.run("HF_HUB_OFFLINE=1 prep ag_news --jsonl"), first);
    assert!(place.hub.log().is_empty());
    // What lies below --data goes first.
    fs::create_dir_all(place.dir.path().join("own/ag_news")).unwrap();
    fs::write(place.dir.path().join("own/ag_news/train.jsonl"), rows(1)).unwrap();
    assert_eq!(place.run("prep ag_news --data own --jsonl").lines().count(), 1);
    assert!(place.hub.log().is_empty());
    let files = place.run("fetch --data ag_news --split train,test");
    assert!(files.lines().all(|file| Path::new(file).is_file()) && files.lines().count() == 2);
}

#[test]
fn data_sets_by_their_name_on_the_hub() {
    let place = Place::new();
    let repo = "datasets/org/set";
    place.hub.put(repo, "train.jsonl", rows(5));
    place.hub.put(repo, "dev.jsonl", rows(2));
    assert_eq!(place.run("prep org/set --jsonl").lines().count(), 5);
    assert_eq!(place.run("prep org/set@main --split validation --jsonl").lines().count(), 2);
    let error = place.error("prep org/set --split other --jsonl");
    assert!(error.contains("org/set: no split `other`"), "{error}");
    let error = place.error("prep org/none --jsonl");
    assert!(error.contains("org/none: no such path here, and no such data set at HUB"), "{error}");
}

#[test]
fn a_catalog_of_ones_own() {
    let place = Place::new();
    let repo = "datasets/org/set";
    place.hub.put(repo, "b/one.json", "{\"t\":\"x\",\"l\":1}\n");
    place.hub.put(repo, "a/one.json", "{\"t\":\"y\",\"l\":0}\n");
    let catalog = r#"[{"name": "mine", "text": ["t"], "label": "l", "labels": ["no", "yes"], "splits": ["train"],
        "hub": {"id": "org/set", "files": {"train": ["b/*.json"]}, "format": "jsonl"}}]"#;
    fs::write(place.dir.path().join("own.json"), catalog).unwrap();
    let rows = place.run("prep mine --catalog own.json --jsonl");
    assert_eq!(rows, "{\"text\":\"x\",\"label\":\"yes\",\"row\":0}\n");
    assert!(place.run("prep --list --catalog own.json").starts_with("mine\n"));
    let both = catalog.replace("b/*.json", "*/one.json");
    fs::write(place.dir.path().join("own.json"), both).unwrap();
    let error = place.error("prep mine --catalog own.json --jsonl");
    assert!(error.contains("org/set: `train` is in a and in b\nhint: "), "{error}");
}

#[test]
fn make_takes_a_model_of_the_hub() {
    let place = Place::furnished();
    let (root, bin) = (common::root(), common::bin());
    let (root, bin) = (root.display(), bin.display());
    place.run(&format!(
        "cp -r {root}/Makefile {root}/recipes . && mkdir target && ln -s {bin} target/release"
    ));
    let base = "runs/models/org--name@v1";
    let fetch = format!("target/release/fetch org/name@v1 -o {base}");
    let plan = place.run("make -n baseline MODEL=org/name@v1 TASKS=sample SEEDS=0");
    assert_eq!(plan.lines().filter(|line| *line == fetch).count(), 1, "{plan}");
    assert!(
        plan.contains(&format!("--model {base} --train runs/name@v1/tok/sample/train.tok")),
        "{plan}"
    );
    let make = format!("make {base}/model.safetensors MODEL=org/name@v1");
    assert!(place.run(&make).starts_with(&fetch));
    assert!(place.run(&make).contains("is up to date"));
    let plan = place.run("make -n baseline MODEL=org/name@v1 TASKS=sample SEEDS=0");
    assert!(!plan.contains("fetch"), "{plan}");
}

/// Python's huggingface_hub finds what we downloaded, and we what it did.
#[test]
fn the_cache_is_shared_with_python() {
    let Some(python) = common::python() else { return };
    let place = Place::furnished();
    let ask = |file: &str, offline: bool| {
        let only = if offline { "True" } else { "False" };
        let code = format!(
            "from huggingface_hub import hf_hub_download as get\n\
             print(get('org/name', '{file}', local_files_only={only}))"
        );
        place.run(&format!("'{}' -c \"{code}\"", python.display()))
    };
    let dir = place.run("fetch --tokenizer org/name").trim().to_owned();
    place.hub.log();
    assert_eq!(ask("tokenizer.json", true), format!("{dir}/tokenizer.json\n"));
    assert!(place.hub.log().is_empty());
    ask("model.safetensors", false);
    place.hub.log();
    assert_eq!(place.run("HF_HUB_OFFLINE=1 fetch org/name").trim(), dir);
    place.run("fetch org/name");
    assert_eq!(place.hub.log(), ["GET /api/models/org/name/revision/main"]);
    assert!(is_whole(&place));
}
