//! Hidden states of texts, layer by layer: before, at kept steps, and after.

use anyhow::Result;

use super::Task;
use super::markup::{
    Cell, Markup, details, figure, folded, grid, key, paragraph, small, subheading, table,
};
use super::models::{Model, models};
use super::plot::{Axes, COLOURS, Kind, Series, cloud, plot};
use crate::layers::{Labels, Layer, Probing, Vectors, alike, of_layer};
use crate::metrics::{Z975, wilson};
use crate::report::states::States;

/// Models whose pictures show without being asked for.
const OPEN: usize = 2;

/// What there is to say of a model.
struct Found<'a> {
    model: &'a Model,
    states: States,
    texts: usize,
    layers: Vec<Layer>,
    /// CKA of each layer with the same of the model it is held against.
    alike: Vec<Option<f64>>,
}

pub fn show(task: &Task) -> Result<Markup> {
    let models = models(task);
    let found: Vec<Found> = models.iter().map(Found::read).collect::<Result<_>>()?;
    if found.is_empty() {
        return Ok(String::new());
    }
    let mut body = paragraph(&about(&found))?;
    let ends: Vec<&Found> = found.iter().filter(|found| found.model.step.is_none()).collect();
    body += &grid(&lines(task.name(), &ends)?);
    for end in &ends {
        let is_step =
            |found: &&Found| found.model.step.is_some() && found.model.dir == end.model.dir;
        let is_before = |found: &&Found| Some(&found.model.path) == end.model.against.as_ref();
        let before = || found.iter().filter(is_before);
        let steps = || found.iter().filter(is_step);
        if steps().count() > 0 {
            let way: Vec<&Found> = before().chain(steps()).chain([*end]).collect();
            let title = format!("{}, on the way", end.model.name);
            body += &(subheading(&title)? + &grid(&lines(&end.model.name, &way)?));
        }
    }
    let note = "A dot is a text, its colour the class. PCA keeps distances that are large, t-SNE neighbourhoods: how far \
                apart its heaps lie, and how large they are, says nothing.";
    body += &paragraph(note)?;
    for found in &found {
        let is_open = ends.iter().take(OPEN).any(|end| end.model == found.model);
        body += &folded(&found.model.name, &clouds(found)?, is_open)?;
    }
    let rows: Vec<Vec<Cell>> = found.iter().flat_map(rows).collect();
    let titles =
        ["model", "layer", "probe, %", "silhouette", "CKA", "variance in two components, %"];
    Ok(body
        + &details("Numbers", &table(&format!("{}: hidden states", task.name()), &titles, &rows)?)?)
}

impl<'a> Found<'a> {
    fn read(model: &'a Model) -> Result<Self> {
        let vectors = Vectors::open(&model.path)?;
        let (labels, probing) = (vectors.labels.as_ref(), Probing::default());
        let layer = |layer| of_layer(&vectors, None, layer, labels, &probing);
        let layers = (0..vectors.layers).map(layer).collect::<Result<_>>()?;
        let against = model.against.as_deref().map(Vectors::open).transpose()?;
        // Of other texts, as where one of the files is of an older make, it cannot be told.
        let against = against.filter(|before| before.check_same(&vectors).is_ok());
        let same = |before| -> Result<Vec<Option<f64>>> {
            let whole = alike(&before, &vectors, false, &mut || ())?;
            Ok(whole.iter().enumerate().map(|(at, row)| row.get(at).copied().flatten()).collect())
        };
        let alike = against.map_or(Ok(Vec::new()), same)?;
        Ok(Self { model, states: States::of(&vectors)?, texts: vectors.texts, layers, alike })
    }

    /// A probe's accuracy.
    fn probed(&self, layer: usize) -> Option<f64> {
        Some(self.layers[layer].right? as f64 / self.texts as f64)
    }

    fn alike(&self, layer: usize) -> Option<f64> {
        self.alike.get(layer).copied().flatten()
    }
}

fn about(found: &[Found]) -> String {
    let classes = found.iter().any(|found| found.states.labels.is_some());
    let probing = Probing::default();
    let of_classes = format!(
        "Probe: how many of the texts are right by logistic regression on the states of a layer, learnt on {0} of {1} parts \
         of them and asked for the rest; the classes that a straight cut can tell. Silhouette: from -1 to 1, how much \
         further the nearest other class lies than the own. ",
        probing.folds - 1,
        probing.folds
    );
    let alike = "CKA: from 0 to 1, how alike a layer is to the same layer before: of a fine-tuned model, of its encoder; of \
                 an adapted encoder, of base. With fewer texts than the layer is wide it is too high, for all models alike. ";
    let alike = if found.iter().any(|found| !found.alike.is_empty()) { alike } else { "" };
    let of_classes = if classes { of_classes } else { String::new() };
    let kept = "A model on the way is one of those that a trainer kept; the last one has the weights that scored best, which \
                may be those of an earlier step. ";
    let kept = if found.iter().any(|found| found.model.step.is_some()) { kept } else { "" };
    format!("{of_classes}{alike}{kept}Layer 0 is the embeddings' output.")
}

/// The numbers of these models over their layers; of many models, of as many as there are colours, evenly.
fn lines(name: &str, found: &[&Found]) -> Result<Vec<Markup>> {
    let drawn = found.len().min(COLOURS);
    let at = |i: usize| i * (found.len() - 1) / (drawn - 1).max(1);
    let note = match found.len() > drawn {
        true => format!("{drawn} of {} models are drawn; the table has all.", found.len()),
        false => String::new(),
    };
    let drawn: Vec<&Found> = (0..drawn).map(|i| found[at(i)]).collect();
    type Value = fn(&Found, usize) -> Option<f64>;
    let pictures: [(&str, &str, Value); 3] = [
        ("linear probe", "percent right", |found, layer| Some(100.0 * found.probed(layer)?)),
        ("silhouette", "silhouette", |found, layer| found.layers[layer].silhouette),
        ("CKA with before", "CKA", |found, layer| found.alike(layer)),
    ];
    let picture = |(what, unit, value): &(&str, &str, Value)| {
        line([&format!("{name}: {what}"), &note], unit, &drawn, value)
    };
    Ok(pictures.iter().map(picture).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// One picture of a number over layers; none where no model has it.
fn line(
    [title, note]: [&str; 2],
    unit: &str,
    found: &[&Found],
    value: impl Fn(&Found, usize) -> Option<f64>,
) -> Result<Option<Markup>> {
    let (mut series, mut legend) = (Vec::new(), Vec::new());
    for (colour, found) in found.iter().enumerate() {
        let point = |layer| Some((layer as f64, value(found, layer)?));
        let points: Vec<(f64, f64)> = (0..found.layers.len()).filter_map(point).collect();
        if !points.is_empty() {
            series.push(Series { colour, points, kind: Kind::Marked });
            legend.push((colour, found.model.name.clone()));
        }
    }
    if series.is_empty() {
        return Ok(None);
    }
    let axes = Axes { title, x: "layer", y: unit, height: 230, across: None, up: None, names: &[] };
    figure(title, note, &plot(&axes, &series)?, &legend).map(Some)
}

fn clouds(found: &Found) -> Result<Markup> {
    let (colours, legend) = found.states.labels.as_ref().map(colours).unwrap_or_default();
    let mut parts = Vec::new();
    for (at, layer) in found.states.layers.iter().enumerate() {
        for (method, points) in [("PCA", &layer.pca), ("t-SNE", &layer.tsne)] {
            if points.is_empty() {
                continue;
            }
            let title = format!("Layer {at}, {method}");
            let told = format!("{}: {title}", found.model.name);
            parts.push(figure(&title, "", &cloud(&told, &by_colour(points, &colours))?, &[])?);
        }
    }
    Ok(key(&legend)? + &small(&parts))
}

/// The colour of each text, and which class it is; the last colour is of all classes beyond the most frequent.
fn colours(labels: &Labels) -> (Vec<usize>, Vec<(usize, String)>) {
    let mut counts = vec![0; labels.names.len()];
    labels.classes.iter().for_each(|label| counts[*label] += 1);
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|class| (std::cmp::Reverse(counts[*class]), *class));
    let own = if order.len() > COLOURS { COLOURS - 1 } else { COLOURS };
    order.truncate(own);
    order.sort_unstable();
    let colour =
        |label: &usize| order.iter().position(|class| class == label).unwrap_or(COLOURS - 1);
    let mut legend: Vec<(usize, String)> = order
        .iter()
        .enumerate()
        .map(|(colour, class)| (colour, labels.names[*class].clone()))
        .collect();
    if labels.names.len() > own {
        legend.push((COLOURS - 1, format!("{} further classes", labels.names.len() - own)));
    }
    (labels.classes.iter().map(colour).collect(), legend)
}

fn by_colour(points: &[(f64, f64)], colours: &[usize]) -> Vec<Series> {
    let of = |colour: usize| {
        let own = |(i, _): &(usize, &(f64, f64))| colours.get(*i).copied().unwrap_or(0) == colour;
        let points = points.iter().enumerate().filter(own).map(|(_, at)| *at).collect();
        Series { colour, points, kind: Kind::Dots }
    };
    (0..COLOURS).map(of).filter(|series| !series.points.is_empty()).collect()
}

fn rows(found: &Found) -> Vec<Vec<Cell>> {
    let row = |layer: usize| {
        let probe = found.layers[layer].right.map(|right| {
            let (low, high) = wilson(right as u64, found.texts as u64, Z975);
            let share = right as f64 / found.texts as f64;
            let [share, low, high] = [share, low, high].map(|share| 100.0 * share);
            Cell::number(format!("{share:.1} [{low:.1}, {high:.1}]"), share)
        });
        let number = |value| Cell::maybe(value, |value| format!("{value:.3}"));
        let explained = 100.0 * found.states.layers[layer].explained;
        vec![
            Cell::text(&found.model.name),
            Cell::number(layer.to_string(), layer as f64),
            probe.unwrap_or_default(),
            number(found.layers[layer].silhouette),
            number(found.alike(layer)),
            Cell::number(format!("{explained:.1}"), explained),
        ]
    };
    (0..found.layers.len()).map(row).collect()
}
