//! What was saved is read again and held against the model: nothing of it may change unseen.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{run, sample};
use tapt::checkpoint::{Checkpoint, read_tensors, write_tensors};
use tapt::model::SequenceClassifier;
use tapt::nn::Everything;
use tapt::shard::Shard;
use tapt::train::{Headed, Probe};
use tch::Device;

fn open(dir: &Path) -> SequenceClassifier {
    let checkpoint = Checkpoint::open(dir, None).unwrap();
    SequenceClassifier::open(checkpoint, &Everything, Device::Cpu).unwrap().model
}

/// Adds to one number of one tensor.
fn tamper(file: &Path, name: &str, change: f64) {
    let (mut tensors, _) = read_tensors(file).unwrap();
    let tensor = tensors.get_mut(name).unwrap();
    let mut first = tensor.flatten(0, -1).get(0);
    let _ = first.g_add_scalar_(change);
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
    write_tensors(file, tensors, ("format", "pt".into())).unwrap();
}

#[test]
fn a_changed_number_is_seen() {
    let dir = sample();
    let dir = dir.path();
    run(
        dir,
        "pretrain --from-scratch config.json --tokenizer tok --steps 2 --device cpu -q -o base train.tok
         finetune --model base --train train.tok --steps 5 --lr 1e-2 --method lora --device cpu -q -o lora
         finetune --model base --train train.tok --steps 5 --lr 1e-2 --device cpu -q -o full",
    );
    let probe = Probe::of(&Shard::open_one(&dir.join("train.tok")).unwrap(), Device::Cpu);
    let base = dir.join("base");
    let value = "roberta.encoder.layer.1.attention.self.value";
    for (out, file, name) in [
        ("full", "model.safetensors", "classifier.out_proj.bias".to_owned()),
        ("lora", "adapter_model.safetensors", "base_model.model.classifier.dense.weight".into()),
        ("lora", "adapter_model.safetensors", format!("base_model.model.{value}.lora_B.weight")),
        ("lora", "adapter_config.json", String::new()),
    ] {
        let out = dir.join(out);
        std::env::set_current_dir(dir).unwrap();
        let model = open(&out);
        assert_eq!(probe.reload(&model, &out, Some(&base)).unwrap(), 0.0);
        let kept = std::fs::read(out.join(file)).unwrap();
        match name.is_empty() {
            true => {
                run(&out, "sed -i 's/\"lora_alpha\": 16/\"lora_alpha\": 9916/' adapter_config.json")
            }
            false => {
                tamper(&out.join(file), &name, 5.0);
                String::new()
            }
        };
        let why = format!("{:#}", probe.reload(&model, &out, Some(&base)).unwrap_err());
        assert!(why.contains("gives other logits"), "{name}: {why}");
        std::fs::write(out.join(file), kept).unwrap();
    }
}
