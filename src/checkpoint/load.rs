//! A model directory, opened, and models built from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::adapter::{self, Adapter};
use super::names;
use super::weights::read_weights;
use crate::flags::fault;
use crate::hub;
use crate::model::{Architecture, Encoder, MaskedLm, SequenceClassifier, Sizes, architecture};
use crate::nn::{Nothing, Parameter, Parameters, Peft, Scope};
use crate::peft::{Files, Method};
use crate::shard::Problem;

/// A model directory: its config, its tensors under canonical names, its adapter if it is one.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where the base model lies.
    pub dir: PathBuf,
    /// Where it lies itself: the adapter's directory, if it is one.
    pub home: PathBuf,
    /// The base model as it was asked for: a path, or a name on the hub.
    pub name: PathBuf,
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
const NO_SAVED_HEAD: &str =
    "have its library save the head with it (peft: modules_to_save); finetune gives it a new one";
const NO_ADAPTER: &str = "--adapter takes what finetune --method lora or another of the kind wrote";

/// A model and its parameters, with the tensors of the file it had no use for.
#[derive(Debug)]
pub struct Loaded<M> {
    pub model: M,
    pub parameters: Parameters,
}

impl Checkpoint {
    /// Opens a checkpoint, or an adapter with the base it names (`base` wins over that name). What is no path is a
    /// model of the hub.
    pub fn open(name: &Path, base: Option<&Path>) -> Result<Self> {
        let dir = &hub::model(name)?;
        ensure!(
            dir.is_dir(),
            fault(
                format!("{}: no such directory", dir.display()),
                "give a model as Hugging Face lays it out, or its name on the hub (org/name)",
            )
        );
        match Adapter::open(dir, base)? {
            None => Self::whole(dir, name),
            Some(adapter) => Ok(Self::whole(&adapter.base, &adapter.name)?.take(dir, adapter)),
        }
    }

    fn whole(dir: &Path, name: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if let Some(lower) = adapter::below(dir).filter(|_| !path.exists()) {
            let cure = format!("{} is an adapter", lower.display());
            return Err(fault(format!("{}: no such file", path.display()), cure));
        }
        let config = read_config(&path)?;
        let architecture = architecture(&config).with_context(|| dir.display().to_string())?;
        let tensors = names::canonical(read_weights(dir)?, architecture.prefix());
        Ok(Self::of((dir, name), config, architecture, tensors))
    }

    fn of(
        (dir, name): (&Path, &Path),
        config: Value,
        architecture: Box<dyn Architecture>,
        tensors: BTreeMap<String, Tensor>,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            home: dir.to_owned(),
            name: name.to_owned(),
            config,
            architecture,
            tensors,
            adapter: None,
            scratch: false,
            merging: false,
            seed: 0,
        }
    }

    /// The same with an adapter, whose tensors win.
    fn take(mut self, dir: &Path, adapter: Adapter) -> Self {
        let own = adapter.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone()));
        self.tensors.extend(own);
        Self { home: dir.to_owned(), adapter: Some(adapter), ..self }
    }

    /// This model again, with the adapter in a directory if one is given; what was read of the base is shared.
    pub fn with(&self, adapter: Option<&Path>) -> Result<Self> {
        let dir = match (adapter, &self.adapter) {
            (None, None) => None,
            (None, Some(_)) => Some(self.home.clone()),
            (Some(dir), None) => Some(hub::model(dir)?),
            (Some(_), Some(_)) => {
                let cause = format!("{}: is an adapter itself", self.home.display());
                return Err(fault(cause, "--model is the base that every --adapter is put on"));
            }
        };
        let tensors = self.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone()));
        let (config, architecture) = (self.config.clone(), architecture(&self.config)?);
        let again = Self::of((&self.dir, &self.name), config, architecture, tensors.collect());
        let Some(dir) = dir else { return Ok(again) };
        let found = Adapter::open(&dir, Some(&self.dir))?;
        let none = || fault(format!("{}: is no adapter", dir.display()), NO_ADAPTER);
        Ok(again.take(&dir, found.ok_or_else(none)?))
    }

    /// The adapter it was opened with.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Whose files its adapter lies in, if it is one.
    pub fn library(&self) -> Option<Files> {
        self.adapter.as_ref().map(|adapter| adapter.library)
    }

    /// Whether a classifier comes with it.
    pub fn classifies(&self) -> bool {
        let output = format!("{}.weight", self.architecture.class_names().output);
        self.tensors.contains_key(&output)
    }

    /// Whether the head of a masked language model comes with it.
    pub fn fills_in(&self) -> bool {
        self.tensors.contains_key(&format!("{}.weight", self.architecture.mlm_names().dense))
    }

    /// The method of its adapter, if it is one, to train on: the model is then built by the plan it is given.
    pub fn take_method(&mut self) -> Option<Box<dyn Method>> {
        self.adapter.as_mut()?.plan.take()
    }

    /// A model of the given config with nothing trained yet; its vocabulary is the tokenizer's.
    pub fn from_scratch(config: &Path, vocab_size: u32, tokenizer: &Path) -> Result<Self> {
        let mut value = read_config(config)?;
        value["vocab_size"] = vocab_size.into();
        let architecture = architecture(&value).with_context(|| config.display().to_string())?;
        let dir = hub::tokenizer(tokenizer)?;
        let scratch = Self::of((&dir, &dir), value, architecture, BTreeMap::new());
        Ok(Self { scratch: true, ..scratch })
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
        let own = (!self.scratch).then(|| self.dir.join("model.safetensors"));
        let adapter = self.adapter.iter().flat_map(|adapter| &adapter.files).cloned();
        for path in own.into_iter().chain(adapter) {
            let mut file = fs::File::open(&path).with_context(|| path.display().to_string())?;
            std::io::copy(&mut file, &mut hash)?;
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// The numbers of its model; the longest sequence is that of texts, without the virtual tokens of its adapter.
    pub fn sizes(&self) -> Sizes {
        let plan = self.adapter.as_ref().and_then(|adapter| adapter.plan.as_ref());
        let before = plan.map_or(0, |plan| plan.virtual_tokens());
        self.architecture.sizes().behind(before)
    }

    /// Names of the classes, by number, from `id2label`; `LABEL_0`, … where the config names none.
    pub fn labels(&self) -> Result<Vec<String>> {
        let own = self.adapter.as_ref().and_then(|adapter| adapter.config.as_ref());
        let names = own.unwrap_or(&self.config)["id2label"].as_object();
        // What the base says of its own classes is not said of others.
        let others = self.adapter.is_some() && own.is_none();
        match names.filter(|names| !others || Some(names.len()) == self.classes()) {
            None => self.unnamed_labels(),
            Some(names) => {
                let name = |i: usize| Some(names.get(&i.to_string())?.as_str()?.to_owned());
                let all: Option<Vec<String>> = (0..names.len()).map(name).collect();
                all.context("config.json: `id2label` must name the classes 0, 1, 2, …")
            }
        }
    }

    fn unnamed_labels(&self) -> Result<Vec<String>> {
        let count = self.classes().ok_or_else(|| self.no_classifier())?;
        Ok((0..count).map(|i| format!("LABEL_{i}")).collect())
    }

    /// How many classes its classifier has.
    fn classes(&self) -> Option<usize> {
        let bias = format!("{}.bias", self.architecture.class_names().output);
        self.tensors.get(&bias).map(Tensor::numel)
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
        let adds = self.adapter.is_none();
        let loaded = self.build(plan, device, MaskedLm::new)?;
        let Some(head) = head else { return Ok(loaded) };
        let cure = "pretrain --new-head starts one at random";
        let parts = [names.dense, names.norm, names.bias];
        audit(&loaded.parameters, adds, head, (&parts, "it has no complete MLM head", cure))?;
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
        let (names, adds) = (self.architecture.class_names(), self.adapter.is_none());
        if head == Head::Given {
            ensure!(self.adapter.is_none() || self.classifies(), self.no_classifier());
            self.check_task()?;
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
        let parts = [names.dense, names.output];
        audit(&loaded.parameters, adds, head, (&parts, "it has no classifier", NO_CLASSIFIER))?;
        Ok(loaded)
    }

    /// Why it cannot tell classes.
    pub fn no_classifier(&self) -> anyhow::Error {
        match self.adapter {
            None => fault("it has no classifier", NO_CLASSIFIER),
            Some(_) => fault("neither it nor its base has a classifier", NO_SAVED_HEAD),
        }
    }

    /// Fails on an adapter whose head is for each token, and would pass for one of texts.
    fn check_task(&self) -> Result<()> {
        let task = self.adapter.as_ref().and_then(|adapter| adapter.task.as_deref());
        let cause = "it was trained for TOKEN_CLS, classes of tokens; SEQ_CLS is what is read";
        ensure!(task != Some("TOKEN_CLS"), fault(cause, NO_CLASSIFIER));
        Ok(())
    }

    /// What its classifier predicts.
    pub fn problem(&self) -> Result<Problem> {
        let own = self.adapter.as_ref().and_then(|adapter| adapter.config.as_ref());
        let outputs = self.labels()?.len();
        let problem = match own.unwrap_or(&self.config)["problem_type"].as_str() {
            Some(name) => Problem::find(name).with_context(|| {
                format!("config.json: `problem_type` {name:?} is none there is")
            })?,
            // As transformers decides where nothing is said.
            None if outputs == 1 => Problem::Regression,
            None => Problem::Classes,
        };
        let single = problem != Problem::Regression || outputs == 1;
        ensure!(single, "it predicts {outputs} numbers of a text; one is what is read");
        Ok(problem)
    }

    /// The encoder alone, for its hidden states.
    pub fn encoder(self, device: Device) -> Result<Loaded<Box<dyn Encoder>>> {
        let build = |root: &Scope, architecture: &dyn Architecture| {
            architecture.encoder(&root.at(architecture.prefix()))
        };
        let loaded = self.build(&Nothing, device, build)?;
        audit(&loaded.parameters, false, Head::Given, (&[], "", ""))?;
        Ok(loaded)
    }

    fn build<M>(
        self,
        plan: &dyn Peft,
        device: Device,
        build: impl Fn(&Scope, &dyn Architecture) -> M,
    ) -> Result<Loaded<M>> {
        let own = self.adapter.as_ref().and_then(|adapter| adapter.plan.as_ref());
        let plan = own.map_or(plan, |own| &**own as &dyn Peft);
        let mut store = Parameters::new(device, self.tensors, self.seed);
        // What an adapter brings was trained with it, a pooler included.
        store.train(self.adapter.iter().flat_map(|adapter| adapter.tensors.keys().cloned()));
        let store = RefCell::new(store);
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

/// Every parameter must come from the file, but for a new head, and what a method adds where it `adds` it now. What is
/// wrong where the head, of these `parts`, is missing, and its cure.
fn audit(
    parameters: &Parameters,
    adds: bool,
    head: Head,
    (parts, wrong, cure): (&[&str], &str, &str),
) -> Result<()> {
    let of_head = |p: &Parameter| parts.iter().any(|part| p.name.starts_with(part));
    let excused = |p: &&Parameter| if p.added { adds } else { head == Head::New && of_head(p) };
    let missing: Vec<_> = parameters.new_ones().filter(|p| !excused(p)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let cause = format!("tensor {} is missing ({} in all)", first.name, missing.len());
    match first.added {
        true => Err(fault(cause, "the adapter's config asks for what its weights have not")),
        false if of_head(first) => Err(fault(format!("{wrong}: {cause}"), cure)),
        false => bail!(cause),
    }
}

fn read_config(path: &Path) -> Result<Value> {
    let named = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(named)?;
    let config: Map<String, Value> = serde_json::from_str(&text).with_context(named)?;
    Ok(config.into())
}
