//! The vectors of texts, layer by layer, as `embed --layer all` writes them.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use nalgebra::DMatrix;
use safetensors::{Dtype, SafeTensors};

use crate::flags::fault;

const FOREIGN: &str = "not vectors as embed writes them";

/// `embeddings` F32 `[N, L, H]` or, of one layer, `[N, H]`; mapped, not read.
pub struct Vectors {
    pub path: PathBuf,
    map: Mmap,
    /// Where the values lie in the file.
    from: usize,
    pub texts: usize,
    pub layers: usize,
    pub width: usize,
    /// The row of each text in its source.
    rows: Vec<u64>,
    /// None where the texts were embedded without.
    pub labels: Option<Labels>,
}

/// The class of each text, an index into `names`.
#[derive(Debug, Clone)]
pub struct Labels {
    pub classes: Vec<usize>,
    pub names: Vec<String>,
}

impl Labels {
    /// The name of the class of a text.
    pub fn name(&self, text: usize) -> &str {
        &self.names[self.classes[text]]
    }
}

impl Vectors {
    /// Fails, with the name of the file, where there is not one vector for each text and layer.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| path.display().to_string())
    }

    fn read(path: &Path) -> Result<Self> {
        let cure = "embed MODEL SHARD --layer all --pool mean -o FILE";
        ensure!(!path.is_dir(), fault("is a directory, not a file of vectors", cure));
        // SAFETY: vectors are written beside and renamed, never changed in place.
        let map = unsafe { Mmap::map(&File::open(path)?)? };
        let tensors = SafeTensors::deserialize(&map).context("not a safetensors file")?;
        let found = tensors.tensor("embeddings").context(FOREIGN)?;
        let (texts, layers, width) = match found.shape()[..] {
            [texts, width] => (texts, 1, width),
            [texts, layers, width] => (texts, layers, width),
            _ => bail!("`embeddings` is {:?}, not [N, L, H]", found.shape()),
        };
        let of_texts = tensors.tensor("offsets").is_err();
        ensure!(of_texts, fault("holds the vectors of tokens, not one for each text", cure));
        let is_f32 = found.dtype() == Dtype::F32 && layers > 0 && width > 0;
        ensure!(
            is_f32,
            "`embeddings` is {:?} {:?}, not F32 [N, L, H]",
            found.dtype(),
            found.shape()
        );
        ensure!(texts > 0, fault("has no texts", cure));
        let numbers = |name| Some(tensors.tensor(name).ok()?.data().chunks_exact(8).map(word));
        let rows: Vec<u64> = numbers("rows").context(FOREIGN)?.collect();
        ensure!(rows.len() == texts, "{} rows, but {texts} vectors", rows.len());
        let labels = match (numbers("labels"), tensors.tensor("label_names")) {
            (Some(labels), Ok(names)) => {
                let names = serde_json::from_slice(names.data()).context("`label_names`")?;
                Some(checked(labels.map(|label| label as usize).collect(), names, texts)?)
            }
            _ => None,
        };
        let from = found.data().as_ptr() as usize - map.as_ptr() as usize;
        Ok(Self { path: path.to_owned(), map, from, texts, layers, width, rows, labels })
    }

    /// The vectors `[texts, H]` of these texts in a layer. Fails where one is not all numbers.
    pub fn of(&self, layer: usize, texts: impl Iterator<Item = usize>) -> Result<DMatrix<f64>> {
        let mut values = Vec::new();
        for text in texts {
            let at = self.from + 4 * (text * self.layers + layer) * self.width;
            let bytes = self.map[at..at + 4 * self.width].chunks_exact(4);
            let start = values.len();
            values.extend(bytes.map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))));
            let cause = || format!("{}: layer {layer}, text {text}", self.path.display());
            let is_finite = values[start..].iter().all(|value| value.is_finite());
            ensure!(is_finite, "{}: is not all numbers", cause());
        }
        Ok(DMatrix::from_row_slice(values.len() / self.width, self.width, &values))
    }

    /// The vectors of all texts in a layer, less those of the mean text.
    pub fn centred(&self, layer: usize) -> Result<DMatrix<f64>> {
        let mut all = self.of(layer, 0..self.texts)?;
        centre(&mut all);
        Ok(all)
    }

    /// Fails where `other` is not of the same texts, or gives them other classes.
    pub fn check_same(&self, other: &Self) -> Result<()> {
        let cure = "both must be made from one shard: embed MODEL SHARD --layer all -o FILE";
        let (first, path) = (self.path.display(), other.path.display());
        let fail = |cause: String| fault(format!("{path}: {cause}"), cure);
        let counts = || format!("{} texts, but {first} has {}", other.texts, self.texts);
        ensure!(self.texts == other.texts, fail(counts()));
        let rows = self.rows.iter().zip(&other.rows).enumerate();
        for (text, (row, found)) in rows {
            let cause = || format!("text {text} is row {found}, but row {row} in {first}");
            ensure!(row == found, fail(cause()));
        }
        let (Some(own), Some(theirs)) = (&self.labels, &other.labels) else { return Ok(()) };
        for text in 0..self.texts {
            let (name, found) = (own.name(text), theirs.name(text));
            let cause = || format!("text {text} is of class {found:?}, but of {name:?} in {first}");
            ensure!(name == found, fail(cause()));
        }
        Ok(())
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn checked(classes: Vec<usize>, names: Vec<String>, texts: usize) -> Result<Labels> {
    ensure!(classes.len() == texts, "{} labels, but {texts} vectors", classes.len());
    let wrong = classes.iter().position(|class| *class >= names.len());
    ensure!(wrong.is_none(), "text {}: no class of that number", wrong.unwrap_or(0));
    Ok(Labels { classes, names })
}

/// Takes the mean of its rows from each. Columns of equal numbers become exactly 0.
pub fn centre(points: &mut DMatrix<f64>) {
    for mut column in points.column_iter_mut() {
        let Some(&first) = column.iter().next() else { continue };
        column.add_scalar_mut(-first);
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
}
