//! Hidden states on a plane: the vectors that `embed --layer all` writes, by PCA and by t-SNE.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bhtsne::tSNE;
use memmap2::Mmap;
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

/// Texts that are drawn at most, evenly from the whole file.
const TEXTS: usize = 300;
/// Principal components that t-SNE starts from, as its authors advise for many dimensions.
const COMPONENTS: usize = 50;
/// Neighbours whose classes are compared.
const NEIGHBOURS: usize = 10;

/// Points of texts, layer by layer.
pub struct States {
    /// Class of each text, an index into `names`; empty where the file has none.
    pub labels: Vec<usize>,
    pub names: Vec<String>,
    pub layers: Vec<Layer>,
}

/// The texts of one layer.
pub struct Layer {
    pub pca: Vec<(f64, f64)>,
    /// Empty where there are too few texts for it.
    pub tsne: Vec<(f64, f64)>,
    /// The share of the variance that the two components have.
    pub explained: f64,
    /// Of the 10 texts nearest to each, in all dimensions, the share that are of its class.
    pub alike: Option<f64>,
}

/// Reads `hidden.safetensors`; the file is named in errors.
pub fn read(path: &Path) -> Result<States> {
    parsed(path).with_context(|| path.display().to_string())
}

fn parsed(path: &Path) -> Result<States> {
    // SAFETY: vectors are written beside and renamed, never changed in place.
    let map = unsafe { Mmap::map(&File::open(path)?)? };
    let tensors = SafeTensors::deserialize(&map).context("not a safetensors file")?;
    let states = tensors.tensor("embeddings").context("not vectors as embed writes them")?;
    let (texts, layers, width) = match states.shape()[..] {
        [texts, width] => (texts, 1, width),
        [texts, layers, width] => (texts, layers, width),
        _ => (0, 0, 0),
    };
    let fits = states.dtype() == Dtype::F32
        && texts > 0
        && width > 0
        && tensors.tensor("offsets").is_err();
    ensure!(fits, "a vector for each text and layer is wanted: embed --layer all --pool mean");
    let count = texts.min(TEXTS);
    let chosen: Vec<usize> = (0..count).map(|i| i * texts / count).collect();
    let value = |i: usize, layer: usize, at: usize| {
        let from = 4 * ((chosen[i] * layers + layer) * width + at);
        let bytes = &states.data()[from..from + 4];
        f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let (labels, names) = labels(&tensors, &chosen).unwrap_or_default();
    let layer = |layer| {
        let points = DMatrix::from_fn(count, width, |i, at| value(i, layer, at));
        ensure!(points.iter().all(|value| value.is_finite()), "layer {layer} is not all numbers");
        laid_out(points, &labels)
    };
    let layers = (0..layers).into_par_iter().map(layer).collect::<Result<_>>()?;
    Ok(States { labels, names, layers })
}

/// The classes of the chosen texts, and the names of all.
fn labels(tensors: &SafeTensors, chosen: &[usize]) -> Option<(Vec<usize>, Vec<String>)> {
    let (labels, names) = (tensors.tensor("labels").ok()?, tensors.tensor("label_names").ok()?);
    let names: Vec<String> = serde_json::from_slice(names.data()).ok()?;
    let label = |&i: &usize| -> Option<usize> {
        let bytes: [u8; 8] = labels.data().get(8 * i..8 * i + 8)?.try_into().ok()?;
        usize::try_from(i64::from_le_bytes(bytes)).ok().filter(|label| *label < names.len())
    };
    Some((chosen.iter().map(label).collect::<Option<_>>()?, names))
}

/// `points` has a row for each text.
fn laid_out(mut points: DMatrix<f64>, labels: &[usize]) -> Result<Layer> {
    let mean = points.row_mean();
    points.row_iter_mut().for_each(|mut row| row -= &mean);
    let products = &points * points.transpose();
    let total = products.trace();
    let components = components(&products);
    let at = |i: usize, component: usize| components.get(component).map_or(0.0, |all| all[i]);
    let pca: Vec<(f64, f64)> = (0..points.nrows()).map(|i| (at(i, 0), at(i, 1))).collect();
    let squares = pca.iter().map(|(x, y)| x * x + y * y).sum::<f64>();
    let explained = if total > 0.0 { squares / total } else { 0.0 };
    Ok(Layer { tsne: tsne(&components, &pca)?, pca, explained, alike: alike(&products, labels) })
}

/// The texts' places along the principal components, the one of the largest variance first, by the eigenvectors of the
/// matrix of their inner products. A component points where its largest value is positive.
fn components(products: &DMatrix<f64>) -> Vec<Vec<f64>> {
    let eigen = SymmetricEigen::new(products.clone());
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let component = |&at: &usize| {
        let length = eigen.eigenvalues[at].max(0.0).sqrt();
        let column = eigen.eigenvectors.column(at);
        let largest = column
            .iter()
            .copied()
            .fold(0.0, |most: f64, x| if x.abs() > most.abs() { x } else { most });
        column.iter().map(|x| x * length * largest.signum()).collect()
    };
    order.iter().take(COMPONENTS).map(component).collect()
}

/// t-SNE (van der Maaten and Hinton 2008) from the first two components, as Kobak and Berens 2019 advise: so it has no
/// random start. In one thread, so that sums have one order.
fn tsne(components: &[Vec<f64>], pca: &[(f64, f64)]) -> Result<Vec<(f64, f64)>> {
    let texts = pca.len();
    let spread = (pca.iter().map(|(x, _)| x * x).sum::<f64>() / texts.max(1) as f64).sqrt();
    if texts < 10 || spread == 0.0 {
        return Ok(Vec::new());
    }
    let rows: Vec<Vec<f32>> = (0..texts)
        .map(|i| components.iter().map(|all| (all[i] / spread) as f32).collect())
        .collect();
    let start: Vec<f32> =
        pca.iter().flat_map(|(x, y)| [x, y].map(|value| (1e-4 * value / spread) as f32)).collect();
    let perplexity = 30f32.min((texts - 1) as f32 / 4.0);
    let distance =
        |a: &Vec<f32>, b: &Vec<f32>| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let places = alone.install(|| {
        let mut tsne: tSNE<f32, Vec<f32>> = tSNE::new(&rows);
        tsne.perplexity(perplexity).epochs(500).initial_embedding(start).exact(distance);
        tsne.embedding()
    });
    Ok(places.chunks_exact(2).map(|at| (f64::from(at[0]), f64::from(at[1]))).collect())
}

/// Of the nearest texts of each, the share that are of its class.
fn alike(products: &DMatrix<f64>, labels: &[usize]) -> Option<f64> {
    let (texts, near) = (labels.len(), NEIGHBOURS.min(labels.len().checked_sub(1)?));
    if near == 0 {
        return None;
    }
    let distance =
        |i: usize, j: usize| products[(i, i)] + products[(j, j)] - 2.0 * products[(i, j)];
    let share = |i: usize| {
        let mut others: Vec<usize> = (0..texts).filter(|j| *j != i).collect();
        others.sort_by(|a, b| distance(i, *a).total_cmp(&distance(i, *b)));
        others[..near].iter().filter(|j| labels[**j] == labels[i]).count() as f64 / near as f64
    };
    Some((0..texts).map(share).sum::<f64>() / texts as f64)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    /// Two heaps far apart along the first of 8 dimensions, the second class in the second heap.
    fn file(texts: usize) -> tempfile::NamedTempFile {
        let far = |i: usize| if i < texts / 2 { -10.0 } else { 10.0 };
        let noise = |i: usize, at: usize| ((i * 7 + at * 13) % 11) as f32 / 11.0;
        let value = |i: usize, at: usize| noise(i, at) + if at == 0 { far(i) } else { 0.0 };
        let values: Vec<u8> = (0..texts)
            .flat_map(|i| (0..16).map(move |at| value(i, at % 8)))
            .flat_map(f32::to_le_bytes)
            .collect();
        let labels: Vec<u8> =
            (0..texts).flat_map(|i| i64::from(i >= texts / 2).to_le_bytes()).collect();
        let names = b"[\"a\",\"b\"]";
        let file = tempfile::NamedTempFile::new().unwrap();
        let tensors = [
            ("embeddings", TensorView::new(Dtype::F32, vec![texts, 2, 8], &values).unwrap()),
            ("labels", TensorView::new(Dtype::I64, vec![texts], &labels).unwrap()),
            ("label_names", TensorView::new(Dtype::U8, vec![names.len()], names).unwrap()),
        ];
        safetensors::serialize_to_file(tensors, None, file.path()).unwrap();
        file
    }

    #[test]
    fn heaps_stay_apart_and_places_are_the_same_again() {
        let file = file(40);
        let (first, again) = (read(file.path()).unwrap(), read(file.path()).unwrap());
        assert_eq!((first.names, first.layers.len()), (vec!["a".to_owned(), "b".to_owned()], 2));
        for (layer, again) in first.layers.iter().zip(&again.layers) {
            assert_eq!((&layer.pca, &layer.tsne), (&again.pca, &again.tsne));
            assert_eq!(layer.alike, Some(1.0));
            assert!(layer.explained > 0.9 && layer.explained <= 1.0 + 1e-12, "{}", layer.explained);
            let side = |i: usize| layer.pca[i].0 > 0.0;
            assert!((0..40).all(|i| side(i) == side(if i < 20 { 0 } else { 39 })));
            let middle = |from: usize| {
                let part = &layer.tsne[from..from + 20];
                part.iter().fold((0.0, 0.0), |sum, at| (sum.0 + at.0 / 20.0, sum.1 + at.1 / 20.0))
            };
            let (a, b) = (middle(0), middle(20));
            let within = layer.tsne[..20]
                .iter()
                .map(|at| (at.0 - a.0).hypot(at.1 - a.1))
                .fold(0.0, f64::max);
            assert!((a.0 - b.0).hypot(a.1 - b.1) > within, "{a:?} {b:?} {within}");
        }
    }

    #[test]
    fn few_and_equal_texts_are_no_error() {
        for texts in [1, 2, 9] {
            let states = read(file(texts).path()).unwrap();
            assert!(
                states.layers.iter().all(|layer| layer.tsne.is_empty() && layer.pca.len() == texts)
            );
        }
        let same = laid_out(DMatrix::from_element(20, 3, 1.0), &[]).unwrap();
        assert_eq!((same.explained, same.alike, same.tsne.len()), (0.0, None, 0));
    }
}
