//! What fine-tuning can be asked for does what it says: against transformers and torch, and through the programs.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use common::{run, sample};
use serde_json::Value;
use tapt::checkpoint::{Checkpoint, Head, Loaded, read_tensors};
use tapt::model::cross_entropy;
use tapt::nn::{Batch, Embedding, Everything, Ids, Parameters, Scope};
use tapt::shard::{Labels, Problem};
use tapt::train::{
    AdamW, AdamWArgs, Item, Micro, Objective, ObjectiveArgs, Plateau, RateArgs, ScheduleArgs,
};
use tch::{Device, Kind, Tensor};

type Tensors = BTreeMap<String, Tensor>;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// The rates of a whole course, as our flags give them.
fn course(line: &Value) -> Vec<f64> {
    let flags = line["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap());
    let args = Flags::parse_from(["finetune"].into_iter().chain(flags)).schedule;
    let total = line["total"].as_u64().unwrap();
    let schedule = args.over(total).unwrap();
    let Some(reduction) = args.reduction() else {
        return (0..total).map(|step| schedule.at(step)).collect();
    };
    let (mut plateau, more) = (Plateau::default(), line["more"].as_bool().unwrap());
    let rates = numbers(&line["scores"]).into_iter().zip(0..).map(|(score, step)| {
        let rate = plateau.rate(schedule.at(step));
        plateau.see(score, more, schedule.at(step), &reduction);
        rate
    });
    rates.collect()
}

#[test]
fn schedules_are_those_of_transformers() {
    let Some(python) = common::python() else { return };
    let script = common::root().join("tests/parity/schedules.py");
    let output = Command::new(python).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", common::both(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.lines().count() > 20);
    for line in lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let (ours, theirs) = (course(&line), numbers(&line["rates"]));
        assert_eq!(ours.len(), theirs.len());
        for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let flags = &line["flags"];
            assert!((ours - theirs).abs() < 1e-15, "{flags}, step {step}: {ours}, not {theirs}");
        }
    }
}

/// What tests/parity/tuning.py computed for each architecture.
fn fixtures() -> Option<tempfile::TempDir> {
    let python = common::python()?;
    let dir = tempfile::tempdir().unwrap();
    let script = common::root().join("tests/parity/tuning.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", common::both(&output));
    Some(dir)
}

fn batch(tensors: &Tensors) -> Batch {
    let ints = |name: &str| Vec::<i64>::try_from(&tensors[name]).unwrap();
    let (ids, mut at) = (ints("ids"), 0);
    let sequence = |length: &i64| {
        let tokens = ids[at..at + *length as usize].iter().map(|&id| id as u32).collect();
        at += *length as usize;
        Ids { tokens, second: None }
    };
    let sequences: Vec<Ids> = ints("lengths").iter().map(sequence).collect();
    Batch::new(&sequences, Device::Cpu)
}

fn close(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    let scale = theirs.abs().max().double_value(&[]).max(1.0);
    let far = (ours.detach().reshape(theirs.size()) - theirs).abs().max().double_value(&[]);
    assert!(far <= tolerance * scale, "{name}: differs by {far:e}, of at most {scale}");
}

#[test]
fn rates_of_head_and_layers_are_param_groups_of_torch() {
    let Some(dir) = fixtures() else { return };
    for name in ["bert", "roberta", "distilbert"] {
        let (tensors, _) = read_tensors(&dir.path().join(name).join("io.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(&dir.path().join(name).join("cls"), None).unwrap();
        let loaded = checkpoint.classifier(3, &Everything, Head::Given, Device::Cpu);
        let Loaded { model, parameters } = loaded.unwrap();
        let (lr, rates) = (1e-3, RateArgs { head_lr: Some(4e-3), layer_decay: 0.5 });
        let shares = rates.shares(&parameters, lr);
        let mut optimizer = AdamW::with_shares(&parameters, &AdamWArgs::default(), shares);
        let schedule = ScheduleArgs { lr, warmup: 2.0, ..ScheduleArgs::default() };
        let (schedule, batch) = (schedule.over(10).unwrap(), batch(&tensors));
        for step in 0..10 {
            let logits = model.logits(&batch, true);
            (cross_entropy(&logits, &tensors["labels"]) / logits.size()[0]).backward();
            let _ = optimizer.step(schedule.at(step), None);
        }
        for parameter in parameters.iter() {
            let wanted = format!("layered.{}", parameter.name);
            // Softmax ignores a bias of the keys: its true gradient is 0, and AdamW scales up the rounding.
            let noise = wanted.ends_with("key.bias") || wanted.ends_with("k_lin.bias");
            let tolerance = if noise { 1e-2 } else { 1e-5 };
            close(&wanted, &parameter.tensor, &tensors[&wanted], tolerance);
        }
    }
}

/// The loss with these flags, of three classes; weights come from a file.
fn objective(dir: &Path, flags: &str) -> Objective {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        objective: ObjectiveArgs,
    }
    let file = dir.join("weights.json");
    fs::write(&file, r#"{"gamma": 1.25, "alpha": 0.5, "beta": 2}"#).unwrap();
    let flags = flags.replace("FILE", file.to_str().unwrap());
    let args =
        Flags::parse_from(["finetune"].into_iter().chain(flags.split_whitespace())).objective;
    let labels = Labels::new(["alpha", "beta", "gamma"].map(String::from).to_vec());
    args.open(Problem::Classes, (&labels, &[1, 2, 2]), Device::Cpu).unwrap()
}

#[test]
fn losses_are_those_of_torch() {
    let Some(dir) = fixtures() else { return };
    let (tensors, _) = read_tensors(&dir.path().join("bert/io.safetensors")).unwrap();
    for (kind, flags) in [
        ("plain", ""),
        ("weighted", "--class-weights FILE"),
        ("smoothed", "--label-smoothing 0.15"),
        ("both", "--class-weights FILE --label-smoothing 0.15"),
        ("focal", "--focal 2"),
        ("focal-weighted", "--focal 0.5 --class-weights FILE"),
    ] {
        let objective = objective(dir.path(), flags);
        let logits = tensors["logits"].copy().set_requires_grad(true);
        let classes = Vec::<i64>::try_from(&tensors["labels"]).unwrap();
        let weight: f64 = classes.iter().map(|&class| objective.weight(class)).sum();
        let items = classes.iter().map(|&class| Item { targets: vec![class], ..Item::default() });
        let micro = Micro::new(&items.collect::<Vec<_>>(), Device::Cpu);
        let loss = objective.sum(&logits, &micro) / weight;
        loss.backward();
        close(kind, &loss, &tensors[&format!("loss.{kind}")], 1e-6);
        close(kind, &logits.grad(), &tensors[&format!("grad.{kind}")], 1e-6);
    }
    let balanced = objective(dir.path(), "--class-weights balanced");
    assert_eq!([0, 1].map(|class| balanced.weight(class)), [5.0 / 3.0, 5.0 / 6.0]);
}

/// Uniform, as wide as the paper says for each text, new at each draw, and in training alone.
#[test]
fn neftune_noise_is_of_the_length_of_each_text() {
    let store = RefCell::new(Parameters::new(Device::Cpu, BTreeMap::new(), 0));
    let table = Embedding::new(&Scope::root(&store, &Everything), 10, 64, 1.0);
    let text = |n: usize| Ids { tokens: vec![3; n], second: None };
    let mut batch = Batch::new(&[text(4), text(100)], Device::Cpu);
    let words = table.words(&batch, true);
    assert!(words.equal(&table.forward(&batch.ids)));
    batch.noise = 5.0;
    assert!(table.words(&batch, false).equal(&words));
    let noise = || (table.words(&batch, true) - &words).abs();
    assert!(!noise().equal(&noise()));
    for (from, n) in [(0, 4), (4, 100)] {
        let (noise, bound) = (noise().narrow(0, from, n), 5.0 / (n as f64 * 64.0).sqrt());
        let (most, mean) =
            (noise.max().double_value(&[]), noise.mean(Kind::Float).double_value(&[]));
        assert!(most <= bound * 1.001 && most > 0.95 * bound, "{n}: {most}, of {bound}");
        assert!((mean / bound - 0.5).abs() < 0.06, "{n}: mean {mean}, of {bound}");
    }
}

/// A tiny encoder without dropout, in `base`.
fn undropped() -> tempfile::TempDir {
    let dir = sample();
    run(
        dir.path(),
        r#"sed -i 's/{/{"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, /' config.json
           pretrain --from-scratch config.json --tokenizer tok --steps 2 --device cpu --dtype f32 -q -o base train.tok"#,
    );
    dir
}

fn tuned(dir: &Path, flags: &str) -> Tensors {
    let common = "finetune --model base --train train.tok --steps 3 --batch 8 --device cpu --dtype f32 -q -o out";
    run(dir, &format!("rm -rf out; {common} {flags}"));
    read_tensors(&dir.join("out/model.safetensors")).unwrap().0
}

fn same(a: &Tensors, b: &Tensors, part: &str) -> bool {
    let mut named = a.iter().filter(|(name, _)| name.contains(part)).peekable();
    assert!(named.peek().is_some(), "no {part}");
    named.all(|(name, tensor)| tensor.equal(&b[name]))
}

#[test]
fn rates_of_0_leave_their_part_as_it_is() {
    let dir = undropped();
    let still = tuned(dir.path(), "--lr 0");
    let head = tuned(dir.path(), "--lr 1e-3 --head-lr 0");
    assert!(same(&still, &head, "classifier.") && !same(&still, &head, "layer.0."));
    let top = tuned(dir.path(), "--lr 1e-3 --layer-decay 0");
    assert!(same(&still, &top, "embeddings.") && same(&still, &top, "layer.0."));
    assert!(
        !same(&still, &top, "layer.1.attention.self.value") && !same(&still, &top, "classifier.")
    );
}

#[test]
fn seeds_of_head_order_and_dropout_are_independent() {
    let dir = undropped();
    let dir = dir.path();
    let one = tuned(dir, "--lr 0 --seed 1");
    assert!(same(&one, &tuned(dir, "--lr 0 --seed 2 --init-seed 1"), "classifier."));
    assert!(!same(&one, &tuned(dir, "--lr 0 --init-seed 2 --seed 1"), "classifier.dense"));
    let plain = tuned(dir, "--seed 1");
    let split = tuned(dir, "--seed 5 --init-seed 1 --order-seed 1 --dropout-seed 1");
    assert!(same(&plain, &split, ""));
    assert!(!same(&plain, &tuned(dir, "--seed 1 --order-seed 2"), "classifier.dense"));
    // Without dropout its seed draws nothing.
    assert!(same(&plain, &tuned(dir, "--seed 1 --dropout-seed 2"), ""));
    run(
        dir,
        r#"sed -i 's/"hidden_dropout_prob":0/"hidden_dropout_prob":0.1/; s/"hidden_dropout_prob": 0/"hidden_dropout_prob": 0.1/' base/config.json"#,
    );
    let dropped = tuned(dir, "--seed 1");
    assert!(!same(&dropped, &tuned(dir, "--seed 1 --dropout-seed 2"), "classifier.dense"));
}

fn log(dir: &Path, key: &str) -> f64 {
    let log = fs::read_to_string(dir.join("out/log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|event| event[key].as_f64()).reduce(|_, last| last).unwrap()
}

/// Losses are divided by the weights of the whole step, however it is split.
#[test]
fn weights_do_not_depend_on_micro_batches() {
    let dir = undropped();
    let dir = dir.path();
    for flags in ["--class-weights FILE", "--class-weights FILE --label-smoothing 0.1", "--focal 2"]
    {
        let weights = r#"{"weather": 0.2, "cooking": 3, "football": 1, "music": 0.5}"#;
        fs::write(dir.join("weights.json"), weights).unwrap();
        let flags = flags.replace("FILE", "weights.json") + " --lr 1e-3 --log-every 1";
        let found = ["", "--micro-tokens 48"].map(|split| {
            tuned(dir, &format!("{flags} {split}"));
            (log(dir, "loss"), log(dir, "grad_norm"))
        });
        let [whole, split] = found;
        assert!((whole.0 - split.0).abs() < 1e-5, "{flags}: {whole:?} and {split:?}");
        assert!((whole.1 - split.1).abs() < 1e-4 * whole.1, "{flags}: {whole:?} and {split:?}");
    }
}

#[test]
fn noise_changes_training_and_resumes() {
    let dir = undropped();
    let plain = tuned(dir.path(), "");
    let noisy = tuned(dir.path(), "--neftune 5");
    assert!(!same(&plain, &noisy, "classifier.dense"));
    assert!(same(&noisy, &tuned(dir.path(), "--neftune 5"), ""));
}
