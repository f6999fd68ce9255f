//! Any bytes as a config.json: an error, or a model that can be built and trained.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tapt::checkpoint::{Checkpoint, Head, class_config, mlm_config};
use tapt::model::{SequenceClassifier, Sizes, architecture};
use tapt::nn::{Batch, Everything, Ids, Parameters, Scope};
use tch::{Device, Tensor};

const VOCAB: u32 = 5;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = serde_json::from_slice(bytes) {
        let _ = black_box(architecture(&config));
    }
    let path = fuzz::file("config.json", bytes);
    let Ok(checkpoint) = Checkpoint::from_scratch(&path, VOCAB, fuzz::folder()) else { return };
    let labels = checkpoint.labels().unwrap_or_default();
    black_box(mlm_config(&checkpoint.config, &*checkpoint.architecture));
    black_box(class_config(&checkpoint.config, &*checkpoint.architecture, &labels));
    let sizes = checkpoint.architecture.sizes();
    if !is_small(&sizes, &checkpoint.config) {
        return;
    }
    let longest = sizes.max_length.min(3) as usize;
    let ids = Ids { tokens: [VOCAB - 1, 1, 0][..longest].to_vec(), second: None };
    let batch = Batch::new([&ids], Device::Cpu);
    let store = RefCell::new(Parameters::new(Device::Cpu, BTreeMap::new(), 0));
    let classes =
        SequenceClassifier::new(&Scope::root(&store, &Everything), &*checkpoint.architecture, 2);
    let _ = black_box(classes.logits(&batch, true));
    let lm = checkpoint.masked_lm(&Everything, Head::New, Device::Cpu).unwrap().model;
    let _ = black_box(lm.logits(&batch, &Tensor::from_slice(&[0i64]), true));
});

/// Whether it is built within a moment: how large a model may be is the machine's affair.
fn is_small(sizes: &Sizes, config: &Value) -> bool {
    let inner =
        if config["model_type"] == "distilbert" { "hidden_dim" } else { "intermediate_size" };
    let inner = config[inner].as_i64().unwrap_or(i64::MAX);
    let tables = ["max_position_embeddings", "type_vocab_size"].map(|key| config[key].as_i64());
    [sizes.hidden, sizes.layers, inner]
        .iter()
        .chain(tables.iter().flatten())
        .all(|&size| size <= 32)
}
