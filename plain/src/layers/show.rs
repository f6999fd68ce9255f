//! A study as a table for the eye, and as JSON.

use serde_json::{Value, json};

use super::{Layer, Study};
use crate::metrics::{Z975, wilson};

/// The names of the models in columns.
const NAMES: [&str; 2] = ["A", "B"];

impl Study {
    /// One object, as `docs/formats.md` has it.
    pub fn to_json(&self) -> Value {
        let mut probe = json!({"c": self.probing.strictness.c,
            "standardize": self.probing.strictness.standardize});
        if self.train.is_empty() {
            probe["folds"] = json!(self.probing.folds);
            probe["seed"] = json!(self.probing.seed);
        } else {
            probe["train"] = self.train.iter().map(|train| json!(train.path)).collect();
        }
        let names = self.labels.as_ref().map(|labels| &labels.names);
        let mut line = json!({"event": "layers", "a": self.sides[0].path,
            "b": self.sides.get(1).map(|side| &side.path), "texts": self.sides[0].texts,
            "classes": names, "majority": self.majority(), "probe": probe});
        line["layers"] = (0..self.rows()).map(|layer| self.layer_to_json(layer)).collect();
        if self.is_whole {
            line["cka"] = json!(self.alike);
        }
        line
    }

    fn layer_to_json(&self, layer: usize) -> Value {
        let side = |found: &Layer| {
            json!({"accuracy": found.right.map(|right| self.share(right)),
                "interval": found.right.map(|right| self.interval(right)),
                "silhouette": found.silhouette})
        };
        let mut line = json!({"layer": layer});
        for (key, layers) in ["a", "b"].iter().zip(&self.layers) {
            line[key] = layers.get(layer).map_or(Value::Null, side);
        }
        if self.layers.len() > 1 {
            line["cka"] = json!(self.same(layer));
        }
        line
    }

    /// The table, and below it what is in it.
    pub fn text(&self) -> String {
        let several = self.layers.len() > 1;
        let named = |what: &str, at: usize| match several {
            true => format!("{what} {}", NAMES[at]),
            false => what.to_owned(),
        };
        let mut columns =
            vec![("layer".to_owned(), (0..self.rows()).map(|at| at.to_string()).collect())];
        for what in ["probe", "silhouette"] {
            for (at, layers) in self.layers.iter().enumerate() {
                let cell = |layer: &Layer| match what {
                    "probe" => layer.right.map(|right| self.percent(right)).unwrap_or_default(),
                    _ => number(layer.silhouette),
                };
                let cells: Vec<String> = layers.iter().map(cell).collect();
                columns.push((named(what, at), cells));
            }
        }
        let same = (0..self.rows()).map(|layer| number(self.same(layer)));
        columns.push(("CKA".into(), if several { same.collect() } else { Vec::new() }));
        columns.retain(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()));
        aligned(&columns, self.rows()) + &self.matrix() + &self.notes()
    }

    fn matrix(&self) -> String {
        if !self.is_whole {
            return String::new();
        }
        let across = self.alike.first().map_or(0, Vec::len);
        let mut columns =
            vec![("CKA".to_owned(), (0..self.alike.len()).map(|at| at.to_string()).collect())];
        for layer in 0..across {
            let cells = self.alike.iter().map(|row| number(row[layer])).collect();
            columns.push((layer.to_string(), cells));
        }
        format!("\n{}", aligned(&columns, self.alike.len()))
    }

    fn notes(&self) -> String {
        let mut notes = Vec::new();
        for (name, side) in NAMES.iter().zip(&self.sides) {
            notes.push(format!("{name}: {}, {} numbers a layer", side.path.display(), side.width));
        }
        let texts = self.sides[0].texts;
        let found = || self.layers.iter().flatten();
        match self.majority() {
            None => {
                notes.push(format!("{texts} texts, not of one class each: no probe, no silhouette"))
            }
            Some(share) => {
                let share = 100.0 * share;
                notes.push(format!("{texts} texts, {share:.2} % of the most frequent class"));
            }
        }
        if found().any(|layer| layer.right.is_some()) {
            notes.push(self.probe_note());
        }
        if found().any(|layer| layer.silhouette.is_some()) {
            notes.push("silhouette: -1 to 1, the higher, the further classes lie apart".into());
        }
        if !self.alike.is_empty() {
            let (down, across) = (NAMES[0], NAMES[self.sides.len() - 1]);
            let whole = format!(", layers of {down} down, of {across} across");
            let whole = if self.is_whole { &whole } else { "" };
            notes.push(format!("CKA: linear, 0 to 1, 1 for layers that are alike{whole}"));
        }
        format!("\n{}\n", notes.join("\n"))
    }

    fn probe_note(&self) -> String {
        let how = match &self.train[..] {
            [] => {
                format!("{} folds of these texts, seed {}", self.probing.folds, self.probing.seed)
            }
            files => {
                let files = files.iter().map(|train| train.path.display().to_string());
                format!("learnt from {}", files.collect::<Vec<_>>().join(", "))
            }
        };
        let scaled = if self.probing.strictness.standardize { ", standardized" } else { "" };
        format!(
            "probe: accuracy of logistic regression, %, with its 95 % interval; C = {}{scaled}, {how}",
            self.probing.strictness.c
        )
    }

    fn rows(&self) -> usize {
        self.layers.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// CKA of a layer with the same of the other model.
    fn same(&self, layer: usize) -> Option<f64> {
        *self.alike.get(layer)?.get(layer)?
    }

    /// The share of the texts that are of the most frequent class.
    fn majority(&self) -> Option<f64> {
        let labels = self.labels.as_ref()?;
        let mut counts = vec![0; labels.names.len()];
        labels.classes.iter().for_each(|class| counts[*class] += 1);
        counts.into_iter().max().map(|most| self.share(most))
    }

    fn share(&self, texts: usize) -> f64 {
        texts as f64 / self.sides[0].texts as f64
    }

    fn interval(&self, right: usize) -> (f64, f64) {
        wilson(right as u64, self.sides[0].texts as u64, Z975)
    }

    fn percent(&self, right: usize) -> String {
        let (low, high) = self.interval(right);
        format!("{:.2} [{:.2}, {:.2}]", 100.0 * self.share(right), 100.0 * low, 100.0 * high)
    }
}

fn number(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.3}")).unwrap_or_default()
}

/// A title, and what stands below it.
type Column = (String, Vec<String>);

/// Columns with their titles, set to the right.
fn aligned(columns: &[Column], rows: usize) -> String {
    let line = |cell: &dyn Fn(&Column) -> String| {
        let width = |(title, cells): &Column| {
            cells.iter().chain([title]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let cells = columns.iter().map(|column| format!("{:>1$}", cell(column), width(column)));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let row = |at: usize| line(&|column| column.1.get(at).cloned().unwrap_or_default());
    line(&|column| column.0.clone()) + &(0..rows).map(row).collect::<String>()
}
