//! Numbers against transformers and peft, live: tests/parity/fixtures.py computes theirs, here are ours.
//!
//! Everything is f32 on the CPU. Values are compared to 1e-5, or to 1e-5 of the largest where that is above 1. The one
//! exception is stated where it is made.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use clap::Parser;
use serde_json::{Value, json};
use tapt::checkpoint::{
    Checkpoint, Head, Loaded, class_config, mlm_config, read_tensors, save_model, save_trained,
    untied_config, write_tensors,
};
use tapt::flags::Failure;
use tapt::model::{MaskedLm, SequenceClassifier, cross_entropy};
use tapt::nn::{Batch, Everything, Ids, Parameters};
use tapt::peft::{Method, MethodArgs};
use tapt::shard::{Labels, Problem};
use tapt::train::{AdamW, AdamWArgs, Item, Micro, ObjectiveArgs, Schedule, ScheduleArgs};
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

    fn close(&self, name: &str, ours: &Tensor) -> f64 {
        close(name, ours, self.get(name), 1e-5)
    }

    /// Gradients of every parameter under `kind`, relative to the largest of each tensor: some are small all over.
    fn gradients(&self, kind: &str, parameters: &Parameters) {
        let prefix = format!("grad.{kind}.");
        let is_model = ["mlm", "cls", "untied", "tags", "rates"].contains(&kind);
        let outer = match kind {
            _ if is_model || kind.ends_with("_bn") || kind.starts_with("hub_") => "",
            "prompt" | "prefix" => "base_model.",
            _ => "base_model.model.",
        };
        let theirs = |name: &str| match name {
            "prompt_embeddings" => format!("{prefix}{name}"),
            _ => format!("{prefix}{outer}{}", in_file(kind, name)),
        };
        // The weights of adapters are moved so far from where they begin that rounding comes near 1e-5. Gradients of a
        // squared error are larger, and so is the rounding of one that is 0 in truth, of a bias of the keys.
        let tolerance = if is_model && kind != "rates" { 1e-5 } else { 5e-5 };
        // peft has no place for a head beside rows of embeddings: none trains there.
        let compared = || parameters.trained().filter(|p| kind != "tokens" || p.added);
        for parameter in compared() {
            let name = theirs(&parameter.name);
            let wanted = self.get(&name);
            let largest = wanted.abs().max().double_value(&[]).max(1e-2);
            close(&name, &(parameter.tensor.grad() / largest), &(wanted / largest), tolerance);
        }
        let wanted = self.tensors.keys().filter(|name| name.starts_with(&prefix)).count();
        assert_eq!(compared().count(), wanted, "{kind}: parameters with a gradient");
    }
}

/// As part of LoRA, peft has rows of the word embeddings one level lower.
fn in_file(kind: &str, name: &str) -> String {
    let lower = if kind == "lora+tokens" { ".token_adapter.trainable" } else { ".trainable" };
    name.replace(".trainable", lower)
}

/// Fails if two tensors differ by more; gives by how much, as a share where the largest is above 1.
fn close(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) -> f64 {
    let ours = ours.detach().reshape(theirs.size());
    let scale = theirs.abs().max().double_value(&[]).max(1.0);
    let difference = (ours - theirs).abs().max().double_value(&[]);
    assert!(
        difference <= tolerance * scale,
        "{name}: differs by {difference:e}, of at most {scale}"
    );
    difference / scale
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

fn check(arguments: &[&Path], kind: &str) -> String {
    let mut command = Command::new(common::python().unwrap());
    command.arg(common::root().join("tests/parity/check.py")).arg(kind).args(arguments);
    let output = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{kind}: {}", common::both(&output));
    String::from_utf8(output.stdout).unwrap()
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

/// Several labels a text, and numbers: from transformers' files, and in ours.
#[test]
fn other_problems_logits_loss_and_gradients() {
    let Some(dir) = fixtures() else { return };
    for name in ARCHITECTURES {
        let reference = Reference::new(&dir.join(name).join("io.safetensors"));
        for (kind, problem, outputs) in
            [("tags", Problem::MultiLabel, 3), ("rates", Problem::Regression, 1)]
        {
            let from = dir.join(name).join(kind);
            let checkpoint = Checkpoint::open(&from, None).unwrap();
            assert_eq!(checkpoint.problem().unwrap(), problem);
            let (labels, config) = (checkpoint.labels().unwrap(), checkpoint.config.clone());
            assert_eq!(labels.len(), outputs);
            let config = class_config(&config, &*checkpoint.architecture, (&labels, problem));
            let loaded = checkpoint.classifier(outputs, &Everything, Head::Given, Device::Cpu);
            let Loaded { model, parameters } = loaded.unwrap();
            let logits = model.logits(&reference.batch, true);
            reference.close(&format!("{kind}_logits"), &logits);
            let loss = mean_loss(problem, &logits, reference.get(&format!("{kind}_labels")));
            reference.close(&format!("{kind}_loss"), &loss);
            loss.backward();
            reference.gradients(kind, &parameters);

            let out = tempfile::tempdir().unwrap();
            let io = out.path().join("io.safetensors");
            save_model(out.path(), &config, &from, &parameters).unwrap();
            write_io(&io, &reference, &logits, "cls");
            let said: Value = serde_json::from_str(&check(&[out.path(), &io], "cls")).unwrap();
            assert_eq!(said["problem_type"], problem.name());
        }
    }
}

/// The loss of a step of one micro-batch, as training has it: `labels` are a row of numbers for each text.
fn mean_loss(problem: Problem, logits: &Tensor, labels: &Tensor) -> Tensor {
    let rows = Vec::<Vec<f32>>::try_from(labels.reshape([labels.size()[0], -1])).unwrap();
    let items = rows.into_iter().map(|numbers| Item { numbers, ..Item::default() });
    let micro = Micro::new(&items.collect::<Vec<_>>(), Device::Cpu);
    let objective = ObjectiveArgs::default();
    let objective = objective.open(problem, (&Labels::default(), &[]), Device::Cpu).unwrap();
    objective.sum(logits, &micro) / labels.numel() as f64
}

#[test]
fn ten_steps_of_adamw() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        let Loaded { model, parameters } = mlm(&dir.join(&name).join("mlm"));
        let lr = if name == "real" { 1e-4 } else { 1e-3 };
        let mut optimizer = AdamW::new(&parameters, &AdamWArgs::default());
        let args = ScheduleArgs { lr, warmup: 2.0, ..ScheduleArgs::default() };
        let schedule: Schedule = args.over(10).unwrap();
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for step in 0..10 {
            let logits = model.logits(&reference.batch, reference.get("masked"), true);
            let loss = cross_entropy(&logits, reference.get("targets")) / logits.size()[0];
            loss.backward();
            losses.push(loss.double_value(&[]) as f32);
            norms.push(optimizer.step(schedule.at(step), None).double_value(&[]) as f32);
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

/// The cure for a pickle is a command that works, and the one that is documented.
#[test]
fn pickles_are_converted_as_we_say() {
    let Some(dir) = fixtures() else { return };
    let (dir, out) = (dir.join("bert"), tempfile::tempdir().unwrap());
    let reference = Reference::new(&dir.join("io.safetensors"));
    let python = common::python().unwrap();
    let script = common::root().join("tests/parity/pickles.py");
    let written = Command::new(&python).arg(script).arg(&dir).arg(out.path()).output().unwrap();
    assert!(written.status.success(), "{}", common::both(&written));
    let base = dir.join("cls");
    for (kind, pickles) in [("lora", 1), ("hub_lora", 2), ("cls", 1), ("mlm", 1)] {
        let from = out.path().join(kind);
        let base = kind.contains("lora").then_some(&*base);
        for _ in 0..pickles {
            let refused = Checkpoint::open(&from, base).unwrap_err();
            let hint = refused.downcast_ref::<Failure>().unwrap().hint.as_deref().unwrap();
            let documented = fs::read_to_string(common::root().join("docs/formats.md")).unwrap();
            let (command, files) = hint.split_once("' ").unwrap();
            assert!(documented.contains(&format!("{command}' ")), "{command}");
            let command = format!("{command}' {files}").replacen("python3", &shown(&python), 1);
            common::run(out.path(), &command);
        }
        let logits = match kind {
            "mlm" => mlm(&from).model.logits(&reference.batch, reference.get("masked"), false),
            _ => classifier(&from, base).model.logits(&reference.batch, false),
        };
        let name = if kind == "cls" { "class_logits".into() } else { format!("{kind}_logits") };
        reference.close(&name, &logits);
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
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

/// Of peft and of AdapterHub, each with every weight moved from where it began, and what it is in the table.
const ADAPTERS: [(&str, &str); 20] = [
    ("lora", "LoRA"),
    ("rslora", "rsLoRA"),
    ("dora", "DoRA"),
    ("patterns", "LoRA, patterns"),
    ("pissa", "LoRA, PiSSA"),
    ("olora", "LoRA, OLoRA"),
    ("ia3", "IA3"),
    ("prompt", "prompt"),
    ("tokens", "tokens"),
    ("lora+tokens", "LoRA, tokens"),
    ("prefix", "prefix"),
    ("projected", "prefix, projected"),
    ("hub_lora", "LoRA, AdapterHub's files"),
    ("hub_lora_all", "LoRA, AdapterHub's files"),
    ("hub_lora_output", "LoRA, AdapterHub's files"),
    ("hub_ia3", "IA3, AdapterHub's files"),
    ("seq_bn", "adapter, sequential"),
    ("double_seq_bn", "adapter, double"),
    ("par_bn", "adapter, parallel"),
    ("scaled_par_bn", "adapter, parallel"),
];

/// The largest differences of logits, by method and by model and direction.
static DIFFERENCES: Mutex<BTreeMap<(String, String), f64>> = Mutex::new(BTreeMap::new());

fn record(method: &str, model: &str, direction: &str, difference: f64) {
    let mut all = DIFFERENCES.lock().unwrap();
    let worst = all.entry((method.into(), format!("{model}, {direction}"))).or_default();
    *worst = worst.max(difference);
}

/// Writes what was recorded as a table, `adapters.md` beside the programs, and shows it.
fn write_table() {
    let all = DIFFERENCES.lock().unwrap();
    let methods: BTreeSet<&str> = all.keys().map(|(method, _)| &method[..]).collect();
    let columns: BTreeSet<&str> = all.keys().map(|(_, column)| &column[..]).collect();
    let joined = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let names = columns.iter().map(ToString::to_string);
    let mut table = joined(std::iter::once("method".to_owned()).chain(names).collect());
    table += &joined(vec!["---".to_owned(); columns.len() + 1]);
    for method in methods {
        let of = |column: &&str| {
            let found = all.get(&(method.to_owned(), (*column).to_owned()));
            found.map_or_else(String::new, |difference| format!("{difference:.0e}"))
        };
        let cells = std::iter::once(method.to_owned()).chain(columns.iter().map(of));
        table += &joined(cells.collect());
    }
    fs::write(common::bin().join("adapters.md"), &table).unwrap();
    let _ = writeln!(io::stderr(), "{table}");
}

#[test]
fn adapters_of_peft_and_adapterhub_load() {
    let Some(dir) = fixtures() else { return };
    for name in models(dir) {
        let dir = dir.join(&name);
        let reference = Reference::new(&dir.join("io.safetensors"));
        for (adapter, row) in ADAPTERS.into_iter().filter(|(adapter, _)| dir.join(adapter).exists())
        {
            let Loaded { model, parameters } =
                classifier(&dir.join(adapter), Some(&dir.join("cls")));
            let logits = model.logits(&reference.batch, true);
            let difference = reference.close(&format!("{adapter}_logits"), &logits);
            record(row, &name, "theirs to ours", difference);
            let loss = cross_entropy(&logits, reference.get("labels")) / logits.size()[0];
            reference.close(&format!("{adapter}_loss"), &loss);
            loss.backward();
            // The network that computes a prefix is not in the file.
            if adapter != "projected" {
                reference.gradients(adapter, &parameters);
            }
            let (adapter_dir, base) = (dir.join(adapter), dir.join("cls"));
            let merged = Checkpoint::open(&adapter_dir, Some(&base)).unwrap().merging(true);
            let merged = merged.classifier(3, &Everything, Head::Given, Device::Cpu).unwrap();
            let logits = merged.model.logits(&reference.batch, false);
            reference.close(&format!("{adapter}_logits"), &logits);
        }
    }
    write_table();
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
        let config = class_config(
            &checkpoint.config,
            &*checkpoint.architecture,
            (&labels[..], Problem::Classes),
        );
        let loaded = classifier(&from, None);
        save_model(out.path(), &config, &from, &loaded.parameters).unwrap();
        write_io(&io, &reference, &loaded.model.logits(&reference.batch, false), "cls");
        check(&[out.path(), &io], "cls");
    }
}

/// The base, what it is in the table, and the flags of adapters of ours.
const OURS: [(&str, &str, &str); 25] = [
    ("cls", "LoRA", "--method lora --targets attention"),
    ("mlm", "LoRA", "--method lora --targets query"),
    ("cls", "LoRA", "--method lora --targets ffn"),
    (
        "cls",
        "LoRA, patterns",
        "--method rslora --rank-pattern 0.*query=2,q_lin=1 --alpha-pattern value=3",
    ),
    ("cls", "rsLoRA", "--method rslora"),
    ("cls", "DoRA", "--method dora --targets all"),
    ("cls", "LoRA", "--method lora --init gaussian"),
    ("cls", "LoRA, PiSSA", "--method lora --init pissa"),
    ("cls", "LoRA, OLoRA", "--method rslora --init olora --rank-pattern value=2"),
    ("cls", "LoRA, PiSSA", "--method dora --init pissa"),
    ("cls", "IA3", "--method ia3"),
    ("mlm", "IA3", "--method ia3 --targets ffn"),
    ("cls", "prompt", "--method prompt --virtual-tokens 7"),
    ("mlm", "prompt", "--method prompt --virtual-tokens 2"),
    ("cls", "tokens", "--method tokens"),
    ("mlm", "LoRA, tokens", "--method lora --tokens 5-8,11"),
    ("cls", "prefix", "--method prefix --virtual-tokens 7"),
    ("mlm", "prefix, projected", "--method prefix --virtual-tokens 3 --prefix-projection 6"),
    ("cls", "adapter, sequential", "--method adapter"),
    ("mlm", "adapter, double", "--method adapter --adapter-kind double --non-linearity gelu"),
    ("cls", "adapter, parallel", "--method adapter --adapter-kind parallel --reduction 5"),
    ("cls", "LoRA, AdapterHub's files", "--method lora --adapter-files adapterhub"),
    (
        "mlm",
        "LoRA, AdapterHub's files",
        "--method rslora --targets key,ffn --init pissa --adapter-files adapterhub",
    ),
    (
        "cls",
        "IA3, AdapterHub's files",
        "--method ia3 --targets key,value,intermediate.dense,lin1 --adapter-files adapterhub",
    ),
    ("mlm", "IA3, AdapterHub's files", "--method ia3 --targets query --adapter-files adapterhub"),
];

/// Adapters of ours, on a base with a classifier and on one without a pooler, in the library whose files they have; and
/// those of either library in the other's files.
#[test]
fn our_adapters_load_in_python() {
    let Some(dir) = fixtures() else { return };
    let all = tempfile::tempdir().unwrap();
    let mut checks = Vec::new();
    for name in models(dir) {
        let reference = Reference::new(&dir.join(&name).join("io.safetensors"));
        for (i, (kind, row, flags)) in OURS.into_iter().enumerate() {
            let (base, out) =
                (dir.join(&name).join(kind), all.path().join(&name).join(format!("ours{i}")));
            fs::create_dir_all(&out).unwrap();
            let logits = trained_adapter(&base, flags, &reference, &out);
            let again = classifier(&out, Some(&base));
            close(flags, &again.model.logits(&reference.batch, false), &logits, 1e-5);
            checks.push(Check::new((&out, &base), &reference, (&logits, "cls"), (&name, row)));
        }
        let base = dir.join(&name).join("cls");
        // As many threads as the fixtures: peft's PiSSA is relative to an SVD, which with one is 1e-5 another in logits.
        for (adapter, to) in CONVERTED {
            let (from, out) = (dir.join(&name).join(adapter), format!("{name}/{adapter}-{to}"));
            common::run(
                all.path(),
                &format!(
                    "merge --to {to} {} --base {} -q --device cpu --threads 2 -o {out}",
                    from.display(),
                    base.display()
                ),
            );
            let logits = reference.get(&format!("{adapter}_logits"));
            let row = format!("{adapter} as {to}");
            let out = all.path().join(out);
            checks.push(Check::new((&out, &base), &reference, (logits, "cls"), (&name, &row)));
        }
    }
    for (check, difference) in checks.iter().zip(check_all(all.path(), &checks)) {
        let direction = if check.row.contains(" as ") { "converted" } else { "ours to theirs" };
        record(&check.row, &check.model, direction, difference);
    }
    write_table();
}

/// Adapters of one library and the other, whose files they are written in.
const CONVERTED: [(&str, &str); 7] = [
    ("lora", "adapterhub"),
    ("rslora", "adapterhub"),
    ("pissa", "adapterhub"),
    ("hub_lora", "peft"),
    ("hub_lora_all", "peft"),
    ("hub_lora_output", "peft"),
    ("hub_ia3", "peft"),
];

/// An adapter for Python to load.
struct Check {
    line: Value,
    model: String,
    row: String,
}

impl Check {
    fn new(
        (out, base): (&Path, &Path),
        reference: &Reference,
        (logits, head): (&Tensor, &str),
        (model, row): (&str, &str),
    ) -> Self {
        let kind = if out.join("head_config.json").exists() { "adapterhub" } else { "lora" };
        let io = out.join("io.safetensors");
        write_io(&io, reference, logits, head);
        let line = json!({"kind": kind, "dir": out, "io": io, "base": base});
        Self { line, model: model.to_owned(), row: row.to_owned() }
    }
}

/// Has one Python load them all; gives how far its logits are from ours.
fn check_all(dir: &Path, checks: &[Check]) -> Vec<f64> {
    let list = dir.join("list.jsonl");
    let lines: String = checks.iter().map(|check| format!("{}\n", check.line)).collect();
    fs::write(&list, lines).unwrap();
    let found: Vec<f64> = check(&[&list], "list")
        .lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["max_abs_diff"].as_f64()? / line["of"].as_f64()?)
        })
        .collect();
    assert_eq!(found.len(), checks.len());
    found
}

/// Adapters trained as a masked language model, and the library whose files they are put into, if that is not their own.
const MASKED: [(&str, Option<&str>); 7] = [
    ("--method lora --targets all", None),
    ("--method ia3", None),
    ("--method tokens", None),
    ("--method adapter", None),
    ("--method lora --targets query,ffn", Some("adapterhub")),
    ("--method lora --targets query,ffn --adapter-files adapterhub", Some("peft")),
    ("--method ia3 --targets query --adapter-files adapterhub", Some("peft")),
];

/// Adapters trained as a masked language model, in the library whose files they have: a tied decoder stays tied.
#[test]
fn our_masked_lm_adapters_load_in_python() {
    let Some(dir) = fixtures() else { return };
    let all = tempfile::tempdir().unwrap();
    let mut checks = Vec::new();
    for name in ARCHITECTURES {
        let reference = Reference::new(&dir.join(name).join("io.safetensors"));
        let base = dir.join(name).join("mlm");
        for (i, (flags, to)) in MASKED.into_iter().enumerate() {
            let mut out = all.path().join(format!("{name}{i}"));
            fs::create_dir(&out).unwrap();
            let checkpoint = Checkpoint::open(&base, None).unwrap();
            let config = mlm_config(&checkpoint.config, &*checkpoint.architecture);
            let plan = plan(&checkpoint, flags);
            let Loaded { model, parameters } =
                checkpoint.masked_lm(&*plan, Head::Given, Device::Cpu).unwrap();
            moved(&parameters);
            let method = (&*plan, method(flags).adapter_files);
            save_trained(&out, (&base, &base), method, &config, &parameters).unwrap();
            if let Some(to) = to {
                let merge = format!(
                    "merge --to {to} {name}{i} -q --device cpu --threads 2 -o {name}{i}.to"
                );
                common::run(all.path(), &merge);
                out = all.path().join(format!("{name}{i}.to"));
            }
            let masked = reference.get("masked");
            let logits = |model: &MaskedLm| model.logits(&reference.batch, masked, false).detach();
            let again = Checkpoint::open(&out, None).unwrap().merging(true);
            let again = again.masked_lm(&Everything, Head::Given, Device::Cpu).unwrap();
            let wanted = logits(&model);
            close(flags, &logits(&again.model), &wanted, 1e-5);
            checks.push(Check::new((&out, &base), &reference, (&wanted, "mlm"), (name, flags)));
        }
    }
    check_all(all.path(), &checks);
}

/// The flags of a method.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    method: MethodArgs,
}

fn plan(checkpoint: &Checkpoint, flags: &str) -> Box<dyn Method> {
    let layers = checkpoint.sizes().layers as usize;
    method(flags).plan(layers, || Ok(vec![7, 3])).unwrap()
}

fn method(flags: &str) -> MethodArgs {
    Flags::parse_from(format!("finetune --rank 3 --alpha 5 {flags}").split(' ')).method
}

/// Moves every trained weight.
fn moved(parameters: &Parameters) {
    tch::manual_seed(7);
    for parameter in parameters.trained() {
        let mut tensor = parameter.tensor.shallow_clone();
        let _ = no_grad(|| tensor.g_add_(&(tensor.randn_like() * 0.1)));
    }
}

/// Moves every trained weight of a new adapter, saves it, and gives its logits.
fn trained_adapter(base: &Path, flags: &str, reference: &Reference, out: &Path) -> Tensor {
    let checkpoint = Checkpoint::open(base, None).unwrap();
    let plan = plan(&checkpoint, flags);
    let labels = ["x", "y", "z"].map(String::from);
    let about: Value = class_config(
        &checkpoint.config,
        &*checkpoint.architecture,
        (&labels[..], Problem::Classes),
    );
    let loaded = checkpoint.classifier(3, &*plan, Head::New, Device::Cpu).unwrap();
    moved(&loaded.parameters);
    let files = method(flags).adapter_files;
    save_trained(out, (base, base), (&*plan, files), &about, &loaded.parameters).unwrap();
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
