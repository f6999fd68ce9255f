//! Numbers against transformers and peft, live: tests/parity/fixtures.py computes theirs, here are ours.
//!
//! Everything is f32 on the CPU. Values are compared to 1e-5, or to 1e-5 of the largest where that is above 1. The one
//! exception is stated where it is made.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use clap::Parser;
use serde_json::{Value, json};
use tapt::checkpoint::{
    Checkpoint, Head, Loaded, class_config, mlm_config, read_tensors, save_adapter, save_model,
    untied_config, write_tensors,
};
use tapt::model::{MaskedLm, SequenceClassifier, cross_entropy};
use tapt::nn::{Batch, Everything, Ids, Parameters};
use tapt::peft::MethodArgs;
use tapt::train::{AdamW, AdamWArgs, Schedule, ScheduleArgs};
use tch::{Device, Tensor, no_grad};

const ARCHITECTURES: [&str; 3] = ["bert", "roberta", "distilbert"];

/// Runs the fixtures once; nothing if there is no Python to run them.
fn fixtures() -> Option<&'static Path> {
    static DIR: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let python = common::python()?;
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(python);
        command.arg(common::root().join("tests/parity/fixtures.py")).arg(dir.path());
        if let Some(model) = real_model() {
            command.arg("--model").arg(model);
        }
        assert!(
            command.env("HF_HUB_OFFLINE", "1").status().unwrap().success(),
            "fixtures.py failed"
        );
        Some(dir)
    });
    dir.as_ref().map(|dir| dir.path())
}

/// A real encoder, fetched by the script beside the project if there is one.
fn real_model() -> Option<PathBuf> {
    let script = common::shared("models/minilm")?;
    let output = Command::new("bash").arg(script).output().unwrap();
    if !output.status.success() {
        common::skipped("the real encoder could not be fetched");
        return None;
    }
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}

/// The batch and the reference numbers of one model.
struct Reference {
    tensors: BTreeMap<String, Tensor>,
    batch: Batch,
}

impl Reference {
    fn new(path: &Path) -> Self {
        let (tensors, _) = read_tensors(path).unwrap();
        let ints = |name: &str| Vec::<i64>::try_from(&tensors[name]).unwrap();
        let (ids, second) = (ints("ids"), ints("second"));
        let mut at = 0;
        let sequences: Vec<Ids> = ints("lengths")
            .iter()
            .zip(second)
            .map(|(&length, second)| {
                let tokens = ids[at..at + length as usize].iter().map(|&id| id as u32).collect();
                at += length as usize;
                Ids { tokens, second: (second > 0).then_some(second as usize) }
            })
            .collect();
        Self { batch: Batch::new(&sequences, Device::Cpu), tensors }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the fixtures have no {name}"))
    }

    fn close(&self, name: &str, ours: &Tensor) {
        close(name, ours, self.get(name), 1e-5);
    }

    /// Gradients of every parameter under `kind`, relative to the largest of each tensor: some are small all over.
    fn gradients(&self, kind: &str, parameters: &Parameters) {
        let prefix = format!("grad.{kind}.");
        let is_model = ["mlm", "cls", "untied"].contains(&kind);
        let theirs = |name: &str| match is_model || kind.ends_with("_bn") {
            true => format!("{prefix}{name}"),
            false => format!("{prefix}base_model.model.{name}"),
        };
        // The weights of adapters are moved so far from where they begin that rounding comes near 1e-5.
        let tolerance = if is_model { 1e-5 } else { 5e-5 };
        for parameter in parameters.trained() {
            let name = theirs(&parameter.name);
            let wanted = self.get(&name);
            let largest = wanted.abs().max().double_value(&[]).max(1e-2);
            close(&name, &(parameter.tensor.grad() / largest), &(wanted / largest), tolerance);
        }
        let wanted = self.tensors.keys().filter(|name| name.starts_with(&prefix)).count();
        assert_eq!(parameters.trained().count(), wanted, "{kind}: parameters with a gradient");
    }
}

fn close(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    let ours = ours.detach().reshape(theirs.size());
    let scale = theirs.abs().max().double_value(&[]).max(1.0);
    let difference = (ours - theirs).abs().max().double_value(&[]);
    assert!(
        difference <= tolerance * scale,
        "{name}: differs by {difference:e}, of at most {scale}"
    );
}

fn mlm(dir: &Path) -> Loaded<MaskedLm> {
    Checkpoint::open(dir, None).unwrap().masked_lm(&Everything, Head::Given, Device::Cpu).unwrap()
}

fn classifier(dir: &Path, base: Option<&Path>) -> Loaded<SequenceClassifier> {
    let checkpoint = Checkpoint::open(dir, base).unwrap();
    checkpoint.classifier(3, &Everything, Head::Given, Device::Cpu).unwrap()
}

/// Writes a batch and our logits for check.py; a masked language model's are at the masked positions.
fn write_io(path: &Path, reference: &Reference, logits: &Tensor, kind: &str) {
    let names = ["ids", "lengths", "second", "masked"];
    let names = names.iter().filter(|name| kind == "mlm" || **name != "masked");
    let batch = names.map(|name| ((*name).to_owned(), reference.get(name)));
    let logits = logits.detach().contiguous();
    write_tensors(path, batch.chain([("logits".into(), &logits)]), ("format", "pt".into()))
        .unwrap();
}

fn check(arguments: &[&Path], kind: &str) {
    let mut command = Command::new(common::python().unwrap());
    command.arg(common::root().join("tests/parity/check.py")).arg(kind).args(arguments);
    let output = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{kind}: {}", common::both(&output));
}

#[test]
fn hidden_states_mlm_logits_loss_and_gradients() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        let Loaded { model, parameters } = mlm(&dir.join(&name).join("mlm"));
        if name != "real" {
            let states = no_grad(|| model.encoder.hidden_states(&reference.batch));
            for (layer, states) in states.iter().enumerate() {
                reference.close(&format!("hidden.{layer}"), states);
            }
        }
        let logits = model.logits(&reference.batch, reference.get("masked"), true);
        reference.close("mlm_logits", &logits);
        let loss = cross_entropy(&logits, reference.get("targets")) / logits.size()[0];
        reference.close("mlm_loss", &loss);
        loss.backward();
        reference.gradients("mlm", &parameters);
    }
}

fn models(dir: &Path) -> Vec<String> {
    let real = dir.join("real").exists().then_some("real");
    ARCHITECTURES.into_iter().chain(real).map(String::from).collect()
}

#[test]
fn class_logits_loss_and_gradients() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        let Loaded { model, parameters } = classifier(&dir.join(&name).join("cls"), None);
        if name == "real" {
            let states = no_grad(|| model.encoder.hidden_states(&reference.batch));
            for (layer, states) in states.iter().enumerate() {
                reference.close(&format!("hidden.{layer}"), states);
            }
        }
        let logits = model.logits(&reference.batch, true);
        reference.close("class_logits", &logits);
        let loss = cross_entropy(&logits, reference.get("labels")) / logits.size()[0];
        reference.close("class_loss", &loss);
        loss.backward();
        reference.gradients("cls", &parameters);
    }
}

#[test]
fn ten_steps_of_adamw() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        let Loaded { model, parameters } = mlm(&dir.join(&name).join("mlm"));
        let lr = if name == "real" { 1e-4 } else { 1e-3 };
        let mut optimizer = AdamW::new(&parameters, &AdamWArgs::default());
        let args = ScheduleArgs { lr, warmup: 2.0, schedule: tapt::train::Shape::Linear };
        let schedule: Schedule = args.over(10).unwrap();
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for step in 0..10 {
            let logits = model.logits(&reference.batch, reference.get("masked"), true);
            let loss = cross_entropy(&logits, reference.get("targets")) / logits.size()[0];
            loss.backward();
            losses.push(loss.double_value(&[]) as f32);
            norms.push(optimizer.step(schedule.at(step)).double_value(&[]) as f32);
        }
        reference.close("adamw.loss", &Tensor::from_slice(&losses));
        reference.close("adamw.norm", &Tensor::from_slice(&norms));
        let rates: Vec<f32> = (0..10).map(|step| schedule.at(step) as f32).collect();
        reference.close("adamw.lr", &Tensor::from_slice(&rates));
        for parameter in parameters.iter() {
            let wanted = format!("adamw.{}", parameter.name);
            // Softmax ignores a bias of the keys: its true gradient is 0, and AdamW scales up the rounding.
            let noise = wanted.ends_with("key.bias") || wanted.ends_with("k_lin.bias");
            close(
                &wanted,
                &parameter.tensor,
                reference.get(&wanted),
                if noise { 1e-2 } else { 1e-5 },
            );
        }
    }
}

#[test]
fn old_and_bare_checkpoints_load() {
    let Some(dir) = fixtures() else { return };
    let dir = dir.join("bert");
    let reference = Reference::new(&dir.join("io.safetensors"));
    let old = mlm(&dir.join("old"));
    reference
        .close("mlm_logits", &old.model.logits(&reference.batch, reference.get("masked"), false));
    let bare = Checkpoint::open(&dir.join("bare"), None).unwrap().encoder(Device::Cpu).unwrap();
    reference.close("hidden.3", &bare.model.forward(&reference.batch, false));
    let refused = Checkpoint::open(&dir.join("bare"), None).unwrap();
    let refused = refused.masked_lm(&Everything, Head::Given, Device::Cpu).unwrap_err();
    assert!(format!("{refused:#}").contains("cls.predictions"), "{refused:#}");
}

/// A decoder that is not the word embeddings, both ways.
#[test]
fn untied_decoders() {
    let Some(dir) = fixtures() else { return };
    for name in ARCHITECTURES {
        let from = dir.join(name).join("untied");
        let reference = Reference::new(&dir.join(name).join("io.safetensors"));
        let Loaded { model, parameters } = mlm(&from);
        assert!(!model.is_tied());
        let logits = model.logits(&reference.batch, reference.get("masked"), true);
        reference.close("untied_logits", &logits);
        (cross_entropy(&logits, reference.get("targets")) / logits.size()[0]).backward();
        reference.gradients("untied", &parameters);

        let out = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&from, None).unwrap();
        let config = mlm_config(&checkpoint.config, &*checkpoint.architecture);
        save_model(out.path(), &untied_config(config), &from, &parameters).unwrap();
        let io = out.path().join("io.safetensors");
        write_io(&io, &reference, &logits, "mlm");
        check(&[out.path(), &io], "mlm");
    }
}

/// Of peft and of AdapterHub, each with every weight moved from where it began.
const ADAPTERS: [&str; 11] = [
    "lora",
    "rslora",
    "dora",
    "patterns",
    "pissa",
    "olora",
    "ia3",
    "seq_bn",
    "double_seq_bn",
    "par_bn",
    "scaled_par_bn",
];

#[test]
fn adapters_of_peft_and_adapterhub_load() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let dir = dir.join(&name);
        let reference = Reference::new(&dir.join("io.safetensors"));
        for adapter in ADAPTERS {
            let Loaded { model, parameters } =
                classifier(&dir.join(adapter), Some(&dir.join("cls")));
            let logits = model.logits(&reference.batch, true);
            reference.close(&format!("{adapter}_logits"), &logits);
            let loss = cross_entropy(&logits, reference.get("labels")) / logits.size()[0];
            reference.close(&format!("{adapter}_loss"), &loss);
            loss.backward();
            reference.gradients(adapter, &parameters);
            let (adapter_dir, base) = (dir.join(adapter), dir.join("cls"));
            let merged = Checkpoint::open(&adapter_dir, Some(&base)).unwrap().merging(true);
            let merged = merged.classifier(3, &Everything, Head::Given, Device::Cpu).unwrap();
            let logits = merged.model.logits(&reference.batch, false);
            reference.close(&format!("{adapter}_logits"), &logits);
        }
    }
}

#[test]
fn checkpoints_load_in_transformers() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        let out = tempfile::tempdir().unwrap();
        let io = out.path().join("io.safetensors");

        let from = dir.join(&name).join("mlm");
        let checkpoint = Checkpoint::open(&from, None).unwrap();
        let config = mlm_config(&checkpoint.config, &*checkpoint.architecture);
        let loaded = mlm(&from);
        save_model(out.path(), &config, &from, &loaded.parameters).unwrap();
        write_io(
            &io,
            &reference,
            &loaded.model.logits(&reference.batch, reference.get("masked"), false),
            "mlm",
        );
        check(&[out.path(), &io], "mlm");

        let from = dir.join(&name).join("cls");
        let labels = ["x", "y", "z"].map(String::from);
        let config = class_config(&checkpoint.config, &*checkpoint.architecture, &labels);
        let loaded = classifier(&from, None);
        save_model(out.path(), &config, &from, &loaded.parameters).unwrap();
        write_io(&io, &reference, &loaded.model.logits(&reference.batch, false), "cls");
        check(&[out.path(), &io], "cls");
    }
}

/// An adapter of ours, on a base with a classifier and on one without a pooler, in the library whose files it has.
#[test]
fn our_adapters_load_in_python() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        for (kind, flags) in [
            ("cls", "--method lora --targets attention"),
            ("mlm", "--method lora --targets query"),
            ("cls", "--method lora --targets ffn"),
            ("cls", "--method rslora --rank-pattern 0.*query=2,q_lin=1 --alpha-pattern value=3"),
            ("cls", "--method dora --targets all"),
            ("cls", "--method lora --init gaussian"),
            ("cls", "--method lora --init pissa"),
            ("cls", "--method rslora --init olora --rank-pattern value=2"),
            ("cls", "--method dora --init pissa"),
            ("cls", "--method ia3"),
            ("mlm", "--method ia3 --targets ffn"),
            ("cls", "--method adapter"),
            ("mlm", "--method adapter --adapter-kind double --non-linearity gelu"),
            ("cls", "--method adapter --adapter-kind parallel --reduction 5"),
        ] {
            let base = dir.join(&name).join(kind);
            let out = tempfile::tempdir().unwrap();
            let logits = trained_adapter(&base, flags, &reference, out.path());
            let io = out.path().join("io.safetensors");
            let kind = if flags.contains("method adapter") { "adapterhub" } else { "lora" };
            write_io(&io, &reference, &logits, kind);
            check(&[out.path(), &io, Path::new("--base"), &base], kind);

            let again = classifier(out.path(), Some(&base));
            close(flags, &again.model.logits(&reference.batch, false), &logits, 1e-5);
        }
    }
}

/// The flags of a method.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    method: MethodArgs,
}

/// Moves every trained weight of a new adapter, saves it, and gives its logits.
fn trained_adapter(base: &Path, flags: &str, reference: &Reference, out: &Path) -> Tensor {
    tch::manual_seed(7);
    let line = format!("finetune --rank 3 --alpha 5 {flags}");
    let plan = Flags::parse_from(line.split(' ')).method.plan(2).unwrap();
    let checkpoint = Checkpoint::open(base, None).unwrap();
    let labels = ["x", "y", "z"].map(String::from);
    let about: Value = class_config(&checkpoint.config, &*checkpoint.architecture, &labels);
    let loaded = checkpoint.classifier(3, &*plan, Head::New, Device::Cpu).unwrap();
    for parameter in loaded.parameters.trained() {
        let mut tensor = parameter.tensor.shallow_clone();
        let _ = no_grad(|| tensor.g_add_(&(tensor.randn_like() * 0.1)));
    }
    let keys = plan.about(&loaded.parameters).unwrap();
    save_adapter(out, (base, base), (&*plan, keys), &about, &loaded.parameters).unwrap();
    loaded.model.logits(&reference.batch, false).detach()
}

/// Ids of every text beside the project, with every tokenizer there, against transformers'.
#[test]
fn token_ids_are_those_of_transformers() {
    let (Some(data), Some(tokenizers)) = (common::shared("data"), common::shared("tokenizers"))
    else {
        return;
    };
    let Some(python) = common::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (name, split) in splits(&data) {
        let rows = format!("prep {name} --split {split} --data {} -q", data.display());
        common::run(dir.path(), &format!("{rows} --jsonl > rows.jsonl"));
        for tokenizer in fs::read_dir(&tokenizers).unwrap() {
            let tokenizer = tokenizer.unwrap().path();
            common::run(
                dir.path(),
                &format!("{rows} --max-length 512 --tokenizer {} > ids.tok", tokenizer.display()),
            );
            let pair =
                if name == "medical_questions_pairs" { &["--pair", "pair"][..] } else { &[] };
            same_ids(&python, dir.path(), &tokenizer, pair);
        }
    }
}

/// Holds `ids.tok`, of `rows.jsonl` in at most 512 tokens, against transformers: ids, second texts, words.
fn same_ids(python: &Path, dir: &Path, tokenizer: &Path, pair: &[&str]) {
    let mut command = Command::new(python);
    command.arg(common::root().join("tests/parity/shard.py")).current_dir(dir);
    command.args(["ids", "ids.tok", "rows.jsonl"]).arg(tokenizer).arg("512").args(pair);
    let output = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{}: {}", tokenizer.display(), common::both(&output));
}

/// What the sample does not have: capitals, accents, other scripts, odd spaces, special tokens spelt out.
const ODD: [&str; 8] = [
    "A Café in ZÜRICH, isn't it?  Two  spaces,\ta tab, 3.14 and e-mail@example.org!",
    "na\u{308}ive de\u{301}ja\u{300} vu; na\u{ef}ve d\u{e9}j\u{e0} vu",
    "新しい本 и новая книга, \u{1f600}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "a <mask> and a [MASK], </s> [SEP] <s>[CLS]<pad>",
    " leading, trailing \u{a0}",
    "soft\u{ad}hyphen, nul\u{1}byte, line\nbreak\r\n",
    "",
    "  ",
];

/// Tokenizers that `prep` trained are to transformers what they are to us.
#[test]
fn token_ids_of_our_own_tokenizers() {
    let Some(python) = common::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let odd: String = ODD.iter().map(|text| json!({ "text": text }).to_string() + "\n").collect();
    fs::write(dir.join("odd.jsonl"), odd).unwrap();
    let texts = "prep sample --split test --limit 400 --jsonl --label none -q | cat - odd.jsonl > texts.jsonl
                 prep texts.jsonl --jsonl -q > rows.jsonl";
    common::run(dir, texts);
    for (kind, size) in [("bpe", 300), ("bpe", 800), ("wordpiece", 300), ("wordpiece", 800)] {
        let tokenizer = format!("{kind}-{size}");
        let train =
            format!("prep texts.jsonl --train-tokenizer {size} --kind {kind} -q -o {tokenizer}");
        let encode =
            format!("prep texts.jsonl --tokenizer {tokenizer} --max-length 512 -q -o ids.tok");
        common::run(dir, &format!("{train} && {encode}"));
        same_ids(&python, dir, Path::new(&tokenizer), &[]);
    }
}

/// Every data set and split there, by the names of its files.
fn splits(data: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for set in
        fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        for file in fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().path()) {
            let file = file.file_name().unwrap().to_string_lossy().into_owned();
            if let Some((split, "jsonl" | "jsonl.gz")) = file.split_once('.') {
                all.push((
                    set.file_name().unwrap().to_string_lossy().into_owned(),
                    split.to_owned(),
                ));
            }
        }
    }
    assert!(all.len() > 8, "only {} splits found", all.len());
    all
}
