//! Gradients of every method against finite differences, in f64 and without dropout.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;

use clap::Parser;
use serde_json::{Value, json};
use tapt::model::{Architecture, MaskedLm, SequenceClassifier, architecture};
use tapt::nn::{Batch, Ids, Parameters, Scope};
use tapt::peft::MethodArgs;
use tch::{Device, Kind, Tensor, no_grad};

const METHODS: [&str; 19] = [
    "full",
    "head",
    "top",
    "bitfit",
    "lora --targets all",
    "lora --targets query --tokens 3",
    "lora --targets attention --init gaussian",
    "lora --init pissa",
    "lora --init olora",
    "rslora --targets ffn",
    "dora --targets all",
    "ia3",
    "adapter --non-linearity gelu",
    "adapter --adapter-kind double",
    "adapter --adapter-kind parallel --reduction 3",
    "prefix --virtual-tokens 3",
    "prefix --virtual-tokens 2 --prefix-projection 5",
    "prompt --virtual-tokens 3",
    "tokens --tokens 2,5-6",
];

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    method: MethodArgs,
}

fn config(kind: &str) -> Value {
    json!({
        "model_type": kind, "vocab_size": 11, "hidden_size": 8, "dim": 8, "num_attention_heads": 2, "n_heads": 2,
        "num_hidden_layers": 2, "n_layers": 2, "intermediate_size": 12, "hidden_dim": 12, "pad_token_id": 0,
        "max_position_embeddings": 16, "initializer_range": 0.3, "hidden_dropout_prob": 0, "dropout": 0,
        "attention_probs_dropout_prob": 0, "attention_dropout": 0, "seq_classif_dropout": 0,
    })
}

fn batch() -> Batch {
    let ids = |tokens: &[u32], second| Ids { tokens: tokens.to_vec(), second };
    Batch::new(&[ids(&[2, 5, 3, 6, 9], Some(3)), ids(&[7, 4], None)], Device::Cpu)
}

/// Numbers between -1 and 1 that look like noise: other tests draw from torch's generator at the same time.
fn noise(size: &[i64], pace: f64) -> Tensor {
    let places = Tensor::arange(size.iter().product::<i64>(), (Kind::Double, Device::Cpu));
    ((places + 1.0) * pace).sin().view(size)
}

/// A model's output and its parameters.
type Model = (Box<dyn Fn(&Batch) -> Tensor>, Parameters);

fn build(architecture: &dyn Architecture, method: &str, masked: bool) -> Model {
    let line = format!("finetune --rank 3 --alpha 5 --method {method}");
    let plan = Flags::parse_from(line.split(' ')).method.plan(2, || Ok(Vec::new())).unwrap();
    let store = RefCell::new(Parameters::new(Device::Cpu, BTreeMap::new(), 3).doubled());
    let root = Scope::root(&store, &*plan);
    let forward: Box<dyn Fn(&Batch) -> Tensor> = if masked {
        let model = MaskedLm::new(&root, architecture);
        Box::new(move |batch| model.logits(batch, &Tensor::from_slice(&[1i64, 3, 5]), true))
    } else {
        let model = SequenceClassifier::new(&root, architecture, 3);
        Box::new(move |batch| model.logits(batch, true))
    };
    let parameters = store.into_inner();
    assert!(parameters.faults().is_empty(), "{method}: {:?}", parameters.faults());
    for (i, parameter) in parameters.trained().enumerate() {
        let mut tensor = parameter.tensor.shallow_clone();
        let _ = no_grad(|| tensor.g_add_(&(noise(&tensor.size(), 1.1 + i as f64) * 0.2)));
    }
    (forward, parameters)
}

fn loss(model: &Model) -> Tensor {
    let logits = (model.0)(&batch());
    (&logits * noise(&logits.size(), 0.7)).sum(Kind::Double)
}

/// Rows of `W + s B A`, whose lengths are constants to DoRA's gradient: where the update moves, the magnitude must
/// move along for differences to see the same.
fn lengths(parameters: &Parameters, place: &str) -> Tensor {
    let of = |name: &str| {
        let full = format!("{place}.{name}");
        parameters.iter().find(|p| p.name == full).unwrap().tensor.shallow_clone()
    };
    let weight = of("weight") + of("lora_B.weight").mm(&of("lora_A.weight")) * (5.0 / 3.0);
    weight.square().sum_dim_intlist(1, false, None).sqrt()
}

/// The slope along entry `at` of a parameter, by a difference to both sides.
fn slope(model: &Model, name: &str, at: i64) -> f64 {
    const STEP: f64 = 1e-5;
    let tensor = |name: &str| model.1.iter().find(|p| p.name == name).unwrap().tensor.detach();
    let flat = tensor(name).view(-1);
    let dora = ["lora_A.weight", "lora_B.weight"].iter().find_map(|end| name.strip_suffix(end));
    let dora = dora
        .map(|place| place.trim_end_matches('.').to_owned())
        .filter(|place| model.1.iter().any(|p| p.name == format!("{place}.lora_magnitude_vector")));
    let moved = |by: f64| {
        no_grad(|| {
            let before = dora.as_ref().map(|place| lengths(&model.1, place));
            let kept = flat.get(at).copy();
            let _ = flat.get(at).g_add_scalar_(by);
            let magnitude =
                dora.as_ref().map(|place| tensor(&format!("{place}.lora_magnitude_vector")));
            let first = magnitude.as_ref().map(Tensor::copy);
            if let (Some(place), Some(before), Some(m)) = (&dora, &before, &magnitude) {
                m.shallow_clone().copy_(&(m * lengths(&model.1, place) / before));
            }
            let value = loss(model).double_value(&[]);
            flat.get(at).copy_(&kept);
            if let (Some(m), Some(first)) = (magnitude, first) {
                m.shallow_clone().copy_(&first);
            }
            value
        })
    };
    (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
}

fn check(kind: &str, method: &str, masked: bool) {
    let architecture = architecture(&config(kind)).unwrap();
    let model = build(&*architecture, method, masked);
    loss(&model).backward();
    let mut largest: f64 = 0.0;
    for parameter in model.1.trained() {
        let gradient = parameter.tensor.grad();
        assert!(gradient.defined(), "{kind}, {method}: {} has no gradient", parameter.name);
        let gradient = gradient.view(-1);
        let most = gradient.abs().argmax(None, false).int64_value(&[]);
        for at in [most, 0] {
            let (ours, wanted) = (gradient.double_value(&[at]), slope(&model, &parameter.name, at));
            let far = (ours - wanted).abs() / wanted.abs().max(1.0);
            assert!(
                far < 1e-6,
                "{kind}, {method}: {} [{at}] is {ours}, not {wanted}",
                parameter.name
            );
            largest = largest.max(ours.abs());
        }
    }
    assert!(largest > 1e-2, "{kind}, {method}: every gradient is next to nothing");
}

#[test]
fn gradients_are_slopes() {
    // Nothing here is large enough to share.
    tch::set_num_threads(1);
    for kind in ["bert", "roberta", "distilbert"] {
        for method in METHODS {
            check(kind, method, false);
            check(kind, method, true);
        }
    }
}
