//! A model directory, opened, and models built from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::adapter::Adapter;
use super::{names, read_tensors};
use crate::flags::fault;
use crate::hub;
use crate::model::{Architecture, Encoder, MaskedLm, SequenceClassifier, architecture};
use crate::nn::{Everything, Parameter, Parameters, Peft, Scope};

/// A model directory: its config, its tensors under canonical names, its adapter if it is one.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where the base model lies.
    pub dir: PathBuf,
    pub config: Value,
    pub architecture: Box<dyn Architecture>,
    tensors: BTreeMap<String, Tensor>,
    adapter: Option<Adapter>,
    /// Nothing is given: every parameter starts at random.
    scratch: bool,
    /// An adapter's updates become a part of the weights they stand beside.
    merging: bool,
    seed: u64,
}

/// Whether a head may start at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    New,
    Given,
}

const NO_CLASSIFIER: &str = "finetune gives it one";

/// A model and its parameters, with the tensors of the file it had no use for.
#[derive(Debug)]
pub struct Loaded<M> {
    pub model: M,
    pub parameters: Parameters,
}

impl Checkpoint {
    /// Opens a checkpoint, or an adapter with the base it names (`base` wins over that name). What is no path is a
    /// model of the hub.
    pub fn open(dir: &Path, base: Option<&Path>) -> Result<Self> {
        let dir = &hub::model(dir)?;
        ensure!(
            dir.is_dir(),
            fault(
                format!("{}: no such directory", dir.display()),
                "give a model as Hugging Face lays it out, or its name on the hub (org/name)",
            )
        );
        let adapter = Adapter::open(dir, base)?;
        let base = adapter.as_ref().map_or(dir, |adapter| &adapter.base).to_owned();
        let config = read_config(&base.join("config.json"))?;
        let architecture = architecture(&config).with_context(|| base.display().to_string())?;
        let mut tensors = names::canonical(read_weights(&base)?, architecture.prefix());
        if let Some(adapter) = &adapter {
            let own = adapter.tensors.iter();
            tensors.extend(own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
        }
        Ok(Self {
            dir: base,
            config,
            architecture,
            tensors,
            adapter,
            scratch: false,
            merging: false,
            seed: 0,
        })
    }

    /// Opens a checkpoint that is no adapter.
    pub fn open_whole(dir: &Path) -> Result<Self> {
        let checkpoint = Self::open(dir, None)?;
        ensure!(
            checkpoint.adapter.is_none(),
            "{}: is an adapter; a whole model is wanted",
            dir.display()
        );
        Ok(checkpoint)
    }

    /// A model of the given config with nothing trained yet; its vocabulary is the tokenizer's.
    pub fn from_scratch(config: &Path, vocab_size: u32, tokenizer: &Path) -> Result<Self> {
        let mut value = read_config(config)?;
        value["vocab_size"] = vocab_size.into();
        let architecture = architecture(&value).with_context(|| config.display().to_string())?;
        let dir = hub::tokenizer(tokenizer)?;
        Ok(Self {
            dir,
            config: value,
            architecture,
            tensors: BTreeMap::new(),
            adapter: None,
            scratch: true,
            merging: false,
            seed: 0,
        })
    }

    /// The same, with new weights drawn by `seed`.
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same, an adapter's updates merged into the weights they stand beside, if so asked.
    pub fn merging(self, merging: bool) -> Self {
        Self { merging, ..self }
    }

    /// sha256 of its config and its weights: what a run that starts from it depends on.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.config.to_string());
        let weights = self.dir.join("model.safetensors");
        if !self.scratch {
            let mut file =
                fs::File::open(&weights).with_context(|| weights.display().to_string())?;
            std::io::copy(&mut file, &mut hash)?;
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Names of the classes, by number, from `id2label`; `LABEL_0`, … where the config names none.
    pub fn labels(&self) -> Result<Vec<String>> {
        let own = self.adapter.as_ref().and_then(|adapter| adapter.config.as_ref());
        match own.unwrap_or(&self.config)["id2label"].as_object() {
            None => self.unnamed_labels(),
            Some(names) => {
                let name = |i: usize| Some(names.get(&i.to_string())?.as_str()?.to_owned());
                let all: Option<Vec<String>> = (0..names.len()).map(name).collect();
                all.context("config.json: `id2label` must name the classes 0, 1, 2, …")
            }
        }
    }

    fn unnamed_labels(&self) -> Result<Vec<String>> {
        let bias = format!("{}.bias", self.architecture.class_names().output);
        let bias =
            self.tensors.get(&bias).ok_or_else(|| fault("it has no classifier", NO_CLASSIFIER))?;
        Ok((0..bias.numel()).map(|i| format!("LABEL_{i}")).collect())
    }

    /// The encoder with its MLM head, on `device`.
    pub fn masked_lm(
        self,
        plan: &dyn Peft,
        head: Head,
        device: Device,
    ) -> Result<Loaded<MaskedLm>> {
        let names = self.architecture.mlm_names();
        let head = if self.scratch { None } else { Some(head) };
        let loaded = self.build(plan, device, MaskedLm::new)?;
        let Some(head) = head else { return Ok(loaded) };
        audit(&loaded.parameters, head, &[names.dense, names.norm, names.bias]).map_err(
            |error| {
                let cure = "pretrain --new-head starts one at random";
                fault(format!("it has no complete MLM head: {error}"), cure)
            },
        )?;
        Ok(loaded)
    }

    /// The encoder with a classifier of `classes` classes, on `device`; `Head::New` leaves a trained one out.
    pub fn classifier(
        mut self,
        classes: usize,
        plan: &dyn Peft,
        head: Head,
        device: Device,
    ) -> Result<Loaded<SequenceClassifier>> {
        let names = self.architecture.class_names();
        if head == Head::Given {
            self.check_problem(classes)?;
        }
        let old =
            |name: &str| name.starts_with("classifier.") || name.starts_with("pre_classifier.");
        let (left, kept) =
            self.tensors.into_iter().partition(|(name, _)| head == Head::New && old(name));
        self.tensors = kept;
        let build = |root: &Scope, architecture: &dyn Architecture| {
            SequenceClassifier::new(root, architecture, classes as i64)
        };
        let mut loaded = self.build(plan, device, build)?;
        loaded.parameters.leave_over(left);
        audit(&loaded.parameters, head, &[names.dense, names.output])
            .map_err(|error| fault(format!("it has no classifier: {error}"), NO_CLASSIFIER))?;
        Ok(loaded)
    }

    /// Fails unless its classes exclude each other: other models answer other questions than which class it is.
    fn check_problem(&self, classes: usize) -> Result<()> {
        let own = self.adapter.as_ref().and_then(|adapter| adapter.config.as_ref());
        // As transformers decides where nothing is said.
        let unsaid = if classes == 1 { "regression" } else { "single_label_classification" };
        let problem = own.unwrap_or(&self.config)["problem_type"].as_str().unwrap_or(unsaid);
        ensure!(
            problem == "single_label_classification",
            "it was trained for {problem}; single_label_classification is what is read so far"
        );
        Ok(())
    }

    /// The encoder alone, for its hidden states.
    pub fn encoder(self, device: Device) -> Result<Loaded<Box<dyn Encoder>>> {
        let build = |root: &Scope, architecture: &dyn Architecture| {
            architecture.encoder(&root.at(architecture.prefix()))
        };
        let loaded = self.build(&Everything, device, build)?;
        audit(&loaded.parameters, Head::Given, &[])?;
        Ok(loaded)
    }

    fn build<M>(
        self,
        plan: &dyn Peft,
        device: Device,
        build: impl Fn(&Scope, &dyn Architecture) -> M,
    ) -> Result<Loaded<M>> {
        let plan = self.adapter.as_ref().map_or(plan, |adapter| &*adapter.plan as &dyn Peft);
        let store = RefCell::new(Parameters::new(device, self.tensors, self.seed));
        let root = Scope::root(&store, plan);
        let root = if self.merging { root.merging() } else { root };
        let model = build(&root, &*self.architecture);
        let parameters = store.into_inner();
        let dir = self.dir.display();
        if let Some(fault) = parameters.faults().first() {
            bail!("{dir}: {fault}");
        }
        let mut left = parameters.left_over().keys();
        if let Some(name) = left.find(|name| !names::is_other_head(name)) {
            bail!("{dir}: tensor {name} belongs to no part of the model");
        }
        Ok(Loaded { model, parameters })
    }
}

/// Every parameter must come from the file, but for a new head and what a method adds to a base.
fn audit(parameters: &Parameters, head: Head, parts: &[&str]) -> Result<()> {
    let excused = |p: &&Parameter| {
        head == Head::New && (p.added || parts.iter().any(|part| p.name.starts_with(part)))
    };
    let missing: Vec<_> = parameters.new_ones().filter(|p| !excused(p)).collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => bail!("tensor {} is missing ({} in all)", first.name, missing.len()),
    }
}

fn read_config(path: &Path) -> Result<Value> {
    let named = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(named)?;
    let config: Map<String, Value> = serde_json::from_str(&text).with_context(named)?;
    Ok(config.into())
}

/// Pickle runs what it reads; we do not read it.
pub fn no_pickle(file: &Path, call: &str) -> anyhow::Error {
    let cure = format!("save it as safetensors: {call}");
    fault(format!("{}: pickle is not read", file.display()), cure)
}

/// How transformers and peft save tensors so that they can be read.
pub const SAFE: &str = "save_pretrained(…, safe_serialization=True)";

fn read_weights(dir: &Path) -> Result<BTreeMap<String, Tensor>> {
    let path = dir.join("model.safetensors");
    let has = |name: &str| dir.join(name).exists();
    if !path.exists() {
        let pickle = ["pytorch_model.bin", "model.pt"].into_iter().find(|name| has(name));
        if let Some(name) = pickle {
            return Err(no_pickle(&dir.join(name), SAFE));
        }
        ensure!(
            !has("model.safetensors.index.json"),
            fault(
                format!("{}: its weights are split over several files", dir.display()),
                "save them in one: save_pretrained(…, max_shard_size=\"100GB\")"
            )
        );
    }
    Ok(read_tensors(&path)?.0)
}
