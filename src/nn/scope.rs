//! Where parameters are born: a place in the tree of names, and the plan for what grows there.
//!
//! A model asks its `Scope` for layers; the scope asks a `Peft` what trains and what is added. So model files
//! know names and shapes, and no model file knows a method of fine-tuning.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use rand::RngCore;
use tch::{Device, Kind, Tensor};

use super::layers::{Affine, Turned};
use super::plan::{Branch, Delta, Everything, Peft, Prefix, Table};
use crate::random;

/// How a parameter begins that no file gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
}

/// One parameter of a model that was built.
#[derive(Debug)]
pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
    /// The same in the numbers that are computed in.
    pub turned: Turned,
    pub trains: bool,
    /// No file gave it.
    pub new: bool,
    /// A method of fine-tuning added it to the model.
    pub added: bool,
}

/// What becomes of one parameter.
struct Plan {
    trains: bool,
    added: bool,
}

/// Every parameter of one model, in order of birth, and the tensors of a file that wait to be asked for.
#[derive(Debug)]
pub struct Parameters {
    device: Device,
    kind: Kind,
    seed: u64,
    given: BTreeMap<String, Tensor>,
    born: Vec<Parameter>,
    names: BTreeSet<String>,
    /// Names of what trains whatever the plan says.
    trained: BTreeSet<String>,
    faults: Vec<String>,
}

impl Parameters {
    /// `given` are the tensors of a checkpoint under canonical names, any dtype, on any device.
    /// New ones are drawn by `seed` and their name alone, whatever else is built beside them.
    pub fn new(device: Device, given: BTreeMap<String, Tensor>, seed: u64) -> Self {
        let (born, names, trained) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let (kind, faults) = (Kind::Float, Vec::new());
        Self { device, kind, seed, given, born, names, trained, faults }
    }

    /// Has parameters of these names train, whatever the plan says.
    pub fn train(&mut self, names: impl IntoIterator<Item = String>) {
        self.trained.extend(names);
    }

    /// The same in f64, in which differences are small enough to check gradients by.
    pub fn doubled(self) -> Self {
        Self { kind: Kind::Double, ..self }
    }

    /// The device they lie on.
    pub fn device(&self) -> Device {
        self.device
    }

    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.born.iter()
    }

    pub fn trained(&self) -> impl Iterator<Item = &Parameter> {
        self.born.iter().filter(|parameter| parameter.trains)
    }

    /// Number of weights: all, or those that train.
    pub fn count(&self, trained: bool) -> usize {
        self.born.iter().filter(|p| p.trains || !trained).map(|p| p.tensor.numel()).sum()
    }

    /// Parameters no file gave.
    pub fn new_ones(&self) -> impl Iterator<Item = &Parameter> {
        self.born.iter().filter(|parameter| parameter.new)
    }

    /// What one should know of how file and model met: parts that start at random, tensors left out.
    pub fn remarks(&self) -> Vec<String> {
        let list = |names: Vec<&str>| format!("{} ({} in all)", names[0], names.len());
        let new: Vec<&str> =
            self.new_ones().filter(|p| !p.added).map(|p| p.name.as_str()).collect();
        let left: Vec<&str> = self.given.keys().map(String::as_str).collect();
        let mut remarks = Vec::new();
        if !new.is_empty() && new.len() < self.born.len() {
            remarks.push(format!("starts at random: {}", list(new)));
        }
        if !left.is_empty() {
            remarks.push(format!("not used: {}", list(left)));
        }
        remarks
    }

    /// Adds tensors that no layer was let ask for.
    pub fn leave_over(&mut self, tensors: BTreeMap<String, Tensor>) {
        self.given.extend(tensors);
    }

    /// Tensors of the file that no layer asked for.
    pub fn left_over(&self) -> &BTreeMap<String, Tensor> {
        &self.given
    }

    /// Tensors whose shape does not fit, and names asked for twice.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn alias(&mut self, from: &str, to: &str) {
        if from == to {
            return;
        }
        let Some(tensor) = self.given.remove(from) else { return };
        let same = |own: &Tensor| own.size() == tensor.size() && own.equal(&tensor);
        match self.given.get(to) {
            Some(own) if same(own) => {}
            Some(_) => self.faults.push(format!("tensors {from} and {to} must be the same")),
            None => drop(self.given.insert(to.to_owned(), tensor)),
        }
    }

    fn create(&mut self, name: &str, shape: &[i64], init: Init, plan: Plan) -> Tensor {
        if !self.names.insert(name.to_owned()) {
            self.faults.push(format!("parameter {name} is built twice"));
        }
        let given = self.given.remove(name);
        let new = given.is_none();
        let tensor = match given {
            Some(tensor) if tensor.size() == shape => self.adopt(&tensor),
            Some(tensor) => {
                let found = tensor.size();
                self.faults.push(format!("tensor {name} has shape {found:?}, not {shape:?}"));
                self.draw(name, shape, Init::Zeros)
            }
            None => self.draw(name, shape, init),
        };
        let Plan { trains, added } = plan;
        let trains = trains || self.trained.contains(name);
        let tensor = tensor.set_requires_grad(trains);
        let (name, own) = (name.to_owned(), tensor.shallow_clone());
        let turned = Turned::known();
        self.born.push(Parameter { name, tensor: own, turned, trains, new, added });
        tensor
    }

    /// A copy of our own: a file's tensors may be mapped memory.
    fn adopt(&self, tensor: &Tensor) -> Tensor {
        tensor.to_device(self.device).totype(self.kind).contiguous().copy()
    }

    fn draw(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        tch::manual_seed(random::generator(name, self.seed, 0).next_u64() as i64);
        // Drawn on the CPU, so that a seed means the same on every device.
        let tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let tensor = tch::no_grad(|| match init {
            Init::Zeros => tensor,
            Init::Ones => tensor.ones_like(),
            Init::Normal(std) => tensor.randn_like() * std,
            Init::Uniform(bound) => (tensor.rand_like() * 2 - 1) * bound,
        });
        tensor.to_device(self.device).totype(self.kind)
    }
}

/// A place in the tree of parameters, and the plan that says how what grows there is trained.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    path: String,
    store: &'a RefCell<Parameters>,
    peft: &'a dyn Peft,
    added: bool,
    merging: bool,
}

impl<'a> Scope<'a> {
    pub fn root(store: &'a RefCell<Parameters>, peft: &'a dyn Peft) -> Self {
        Self { path: String::new(), store, peft, added: false, merging: false }
    }

    /// The same place, where linear layers take in what the plan adds to them.
    pub fn merging(&self) -> Self {
        Self { path: self.path.clone(), merging: true, ..*self }
    }

    /// The place `name` below this one; an empty name is this one.
    pub fn at(&self, name: &str) -> Self {
        Self { path: self.full(name), ..*self }
    }

    /// The place above all others.
    pub fn top(&self) -> Self {
        Self { path: String::new(), ..*self }
    }

    /// The same place, where everything trains: new heads.
    pub fn trained(&self) -> Self {
        Self { path: self.path.clone(), peft: &Everything, ..*self }
    }

    /// The same place, for what a method adds: it trains, and is no part of the plain model.
    pub fn added(&self) -> Self {
        Self { added: true, ..self.trained() }
    }

    /// The device parameters lie on.
    pub fn device(&self) -> Device {
        self.store.borrow().device
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a checkpoint gives `name` below this place.
    pub fn is_given(&self, name: &str) -> bool {
        self.store.borrow().given.contains_key(&self.full(name))
    }

    /// A tensor the checkpoint gives, before any layer takes it.
    pub fn peek(&self, name: &str) -> Option<Tensor> {
        self.store.borrow().given.get(&self.full(name)).map(Tensor::shallow_clone)
    }

    /// Says that `name` here is another name of the same tensor `at` another place. Given under both names, the
    /// two must be equal.
    pub fn alias(&self, name: &str, at: &Scope) {
        let (from, to) = (self.full(name), at.full(name));
        self.store.borrow_mut().alias(&from, &to);
    }

    /// Says why the model cannot be built.
    pub fn fault(&self, cause: String) {
        self.store.borrow_mut().faults.push(cause);
    }

    /// Takes a tensor the checkpoint gives and no layer needs.
    pub fn discard(&self, name: &str) {
        self.store.borrow_mut().given.remove(&self.full(name));
    }

    /// The parameter `name`: from the checkpoint, or drawn.
    pub fn parameter(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        let name = self.full(name);
        let plan = Plan { trains: self.peft.trains(&name), added: self.added };
        self.store.borrow_mut().create(&name, shape, init, plan)
    }

    /// Where the parameter `name`, which is there, is kept in other numbers.
    pub fn turned(&self, name: &str) -> Turned {
        let (store, name) = (self.store.borrow(), self.full(name));
        let found = store.born.iter().rev().find(|parameter| parameter.name == name);
        found.map(|parameter| parameter.turned.clone()).unwrap_or_default()
    }

    /// What the plan makes of the linear layer at this place. Where additions are merged, `own` takes them in.
    pub fn delta(&self, own: &mut Affine) -> Option<Box<dyn Delta>> {
        let delta = self.peft.delta(self, own)?;
        if !self.merging {
            return Some(delta);
        }
        own.set(&delta.merged(own));
        None
    }

    /// What the plan makes of the table of embeddings at this place. Where additions are merged, `own` takes them in.
    pub fn table(&self, own: &mut Tensor) -> Option<Box<dyn Table>> {
        let table = self.peft.table(self, own)?;
        match if self.merging { table.merged(own) } else { None } {
            None => Some(table),
            Some(rows) => {
                tch::no_grad(|| own.copy_(&rows));
                None
            }
        }
    }

    /// What the plan has every token attend to here, beside its sequence.
    pub fn prefix(&self, hidden: i64) -> Option<Box<dyn Prefix>> {
        self.peft.prefix(self, hidden)
    }

    /// What the plan adds beside the residual connection that ends here.
    pub fn branch(&self, hidden: i64) -> Option<Box<dyn Branch>> {
        self.peft.branch(self, hidden)
    }

    fn full(&self, name: &str) -> String {
        match (self.path.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{name}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place with `other` given under another name of `bias`.
    fn faults(bias: Option<f32>, other: f32) -> (Option<f32>, usize) {
        let mut given = BTreeMap::from([("decoder.bias".to_owned(), Tensor::from(other))]);
        given.extend(bias.map(|bias| ("head.bias".to_owned(), Tensor::from(bias))));
        let store = RefCell::new(Parameters::new(Device::Cpu, given, 0));
        let root = Scope::root(&store, &Everything);
        root.at("decoder").alias("bias", &root.at("head"));
        let own = root.at("head").peek("bias").map(|bias| bias.double_value(&[]) as f32);
        let store = store.into_inner();
        assert!(!store.given.contains_key("decoder.bias"));
        (own, store.faults().len())
    }

    #[test]
    fn two_names_of_one_tensor() {
        assert_eq!(faults(None, 2.0), (Some(2.0), 0));
        assert_eq!(faults(Some(2.0), 2.0), (Some(2.0), 0));
        assert_eq!(faults(Some(1.0), 2.0), (Some(1.0), 1));
    }
}
