//! What classes and another model say of a model's layers: probes, silhouettes, CKA.

mod cka;
mod probe;
mod show;
mod silhouette;
mod vectors;

use anyhow::{Result, ensure};
use nalgebra::DMatrix;

use crate::flags::{fault, usage};

pub use cka::{cka, product};
pub use probe::{Probe, Strictness, cross_validated, folds};
pub use silhouette::silhouette;
pub use vectors::{Labels, Vectors, centre};

/// How probes learn.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Probing {
    /// Parts to divide the texts into: each is classified by a probe that learnt from the others
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub folds: u32,

    /// Draws the folds
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    #[command(flatten)]
    pub strictness: Strictness,
}

impl Default for Probing {
    fn default() -> Self {
        Self { folds: 5, seed: 0, strictness: Strictness::default() }
    }
}

/// What classes say of one layer of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// How many texts the probe is right about; none without two classes to learn.
    pub right: Option<usize>,
    /// Not defined unless there are two classes at least, and more texts than classes.
    pub silhouette: Option<f64>,
}

/// One model, or two, layer by layer.
pub struct Study {
    /// The vectors of each model, of the same texts.
    sides: Vec<Vectors>,
    /// Of other texts, that probes learn from, in the order of the models; none where they learn by folds.
    train: Vec<Vectors>,
    /// The classes of the texts.
    labels: Option<Labels>,
    probing: Probing,
    layers: Vec<Vec<Layer>>,
    /// Of the first model's layers down, of the last one's across; only pairs that were asked for have numbers.
    alike: Vec<Vec<Option<f64>>>,
    is_whole: bool,
}

impl Study {
    /// Fails where the vectors of two models are of other texts, or those to learn from do not fit.
    pub fn new(sides: Vec<Vectors>, train: Vec<Vectors>, probing: Probing) -> Result<Self> {
        let [first, others @ ..] = &sides[..] else { return Err(usage("no vectors").into()) };
        others.iter().try_for_each(|other| first.check_same(other))?;
        let labels = sides.iter().find_map(|side| side.labels.clone());
        if !train.is_empty() {
            let each = usage("--train wants a file for each model, in their order");
            ensure!(train.len() == sides.len(), each);
            sides.iter().zip(&train).try_for_each(|(side, train)| check_train(side, train))?;
        }
        let (layers, alike) = (Vec::new(), Vec::new());
        Ok(Self { sides, train, labels, probing, layers, alike, is_whole: false })
    }

    /// Layers that `measure` goes through.
    pub fn count(&self) -> u64 {
        let layers: usize = self.sides.iter().map(|side| side.layers).sum();
        layers as u64 + if self.sides.len() > 1 { self.sides[0].layers as u64 } else { 0 }
    }

    /// Measures every layer, with `whole` also every layer of the first model against every one of the last, which may be
    /// the first; `done` is called after each.
    pub fn measure(&mut self, whole: bool, done: &mut dyn FnMut()) -> Result<()> {
        for (at, side) in self.sides.iter().enumerate() {
            let labels = self.labels.as_ref();
            let found = (0..side.layers).map(|layer| {
                done();
                of_layer(side, self.train.get(at), layer, labels, &self.probing)
            });
            self.layers.push(found.collect::<Result<_>>()?);
        }
        if let [first, .., last] | [first @ last] = &self.sides[..]
            && (whole || self.sides.len() > 1)
        {
            self.alike = alike(first, last, whole, done)?;
        }
        self.is_whole = whole;
        Ok(())
    }
}

fn check_train(side: &Vectors, train: &Vectors) -> Result<()> {
    let path = train.path.display();
    let cause = || {
        format!(
            "{path}: {} layers of {} numbers, but {} has {} of {}",
            train.layers,
            train.width,
            side.path.display(),
            side.layers,
            side.width
        )
    };
    let cure = "both must be made by one model";
    let is_same = (train.layers, train.width) == (side.layers, side.width);
    ensure!(is_same, fault(cause(), cure));
    let cure = "a probe learns classes: embed a shard with labels";
    ensure!(train.labels.is_some(), fault(format!("{path}: has no labels"), cure));
    Ok(())
}

/// What the classes of the texts say of a layer. A probe learns from `train`, or without it by folds.
pub fn of_layer(
    side: &Vectors,
    train: Option<&Vectors>,
    layer: usize,
    labels: Option<&Labels>,
    probing: &Probing,
) -> Result<Layer> {
    let points = side.centred(layer)?;
    let Some(labels) = labels else { return Ok(Layer::default()) };
    let silhouette = silhouette(&points, &labels.classes);
    let right = match train {
        Some(train) => learnt(side, train, layer, labels, probing.strictness)?,
        None if !differ(&labels.classes) => None,
        None => {
            let parts = (probing.folds as usize).min(side.texts);
            let folds = folds(&labels.classes, parts, probing.seed);
            let points = with_ones(points);
            Some(cross_validated(&points, &labels.classes, &folds, probing.strictness)?)
        }
    };
    Ok(Layer { right, silhouette })
}

fn differ(classes: &[usize]) -> bool {
    classes.iter().any(|class| *class != classes[0])
}

/// How many texts a probe is right about that learnt from others; classes are joined by name.
fn learnt(
    side: &Vectors,
    train: &Vectors,
    layer: usize,
    labels: &Labels,
    strictness: Strictness,
) -> Result<Option<usize>> {
    let Some(known) = train.labels.as_ref().filter(|known| differ(&known.classes)) else {
        return Ok(None);
    };
    let mut points = train.of(layer, 0..train.texts)?;
    let mut asked = side.of(layer, 0..side.texts)?;
    // A shift changes intercepts alone, and makes the optimum easier to find.
    let mean = points.row_mean();
    for mut row in points.row_iter_mut().chain(asked.row_iter_mut()) {
        row -= &mean;
    }
    let gold: Vec<_> = known.classes.iter().copied().map(Some).collect();
    let found = Probe::fit(&with_ones(points), &gold, strictness)?.classes(&with_ones(asked));
    let is_right = |(text, class): &(usize, &usize)| known.names[**class] == labels.name(*text);
    Ok(Some(found.iter().enumerate().filter(is_right).count()))
}

/// A last number 1 for each text, whose weights are the intercepts.
pub fn with_ones(points: DMatrix<f64>) -> DMatrix<f64> {
    let last = points.ncols();
    points.insert_column(last, 1.0)
}

/// CKA of the layers of one model, down, with those of another, across: of each layer with the same of the other, or of
/// all with all.
pub fn alike(
    a: &Vectors,
    b: &Vectors,
    whole: bool,
    done: &mut dyn FnMut(),
) -> Result<Vec<Vec<Option<f64>>>> {
    let norms = |side: &Vectors| -> Result<Vec<f64>> {
        let norm = |layer| side.centred(layer).map(|points| product(&points, &points));
        (0..side.layers).map(norm).collect()
    };
    let (norms_a, norms_b) = (norms(a)?, norms(b)?);
    let row = |down: usize| {
        done();
        let points = a.centred(down)?;
        let cell = |across: usize| match whole || down == across {
            true => {
                let both = product(&points, &b.centred(across)?);
                Ok(cka(both, norms_a[down], norms_b[across]))
            }
            false => Ok(None),
        };
        (0..b.layers).map(cell).collect()
    };
    (0..a.layers).map(row).collect()
}
