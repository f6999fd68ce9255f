//! Hidden states on a plane: the vectors that `embed --layer all` writes, by PCA and by t-SNE.

use anyhow::Result;
use bhtsne::tSNE;
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

use crate::layers::{Labels, Vectors, centre};

/// Texts that are drawn at most, evenly from the whole file.
const TEXTS: usize = 300;
/// Principal components that t-SNE starts from, as its authors advise for many dimensions.
const COMPONENTS: usize = 50;

/// Points of texts, layer by layer.
pub struct States {
    /// Classes of the texts that are drawn, where the file has some.
    pub labels: Option<Labels>,
    pub layers: Vec<Layer>,
}

/// The texts of one layer.
pub struct Layer {
    pub pca: Vec<(f64, f64)>,
    /// Empty where there are too few texts for it.
    pub tsne: Vec<(f64, f64)>,
    /// The share of the variance that the two components have.
    pub explained: f64,
}

impl States {
    /// Fails where a vector is not all numbers.
    pub fn of(vectors: &Vectors) -> Result<Self> {
        let count = vectors.texts.min(TEXTS);
        let chosen: Vec<usize> = (0..count).map(|i| i * vectors.texts / count).collect();
        let labels = vectors.labels.as_ref().map(|labels| Labels {
            classes: chosen.iter().map(|text| labels.classes[*text]).collect(),
            names: labels.names.clone(),
        });
        let layer = |layer| laid_out(vectors.of(layer, chosen.iter().copied())?);
        let layers = (0..vectors.layers).into_par_iter().map(layer).collect::<Result<_>>()?;
        Ok(Self { labels, layers })
    }
}

/// `points` has a row for each text.
fn laid_out(mut points: DMatrix<f64>) -> Result<Layer> {
    centre(&mut points);
    let products = &points * points.transpose();
    let total = products.trace();
    let components = components(&products);
    let at = |i: usize, component: usize| components.get(component).map_or(0.0, |all| all[i]);
    let pca: Vec<(f64, f64)> = (0..points.nrows()).map(|i| (at(i, 0), at(i, 1))).collect();
    let squares = pca.iter().map(|(x, y)| x * x + y * y).sum::<f64>();
    let explained = if total > 0.0 { squares / total } else { 0.0 };
    Ok(Layer { tsne: tsne(&components, &pca)?, pca, explained })
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

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
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
        let rows: Vec<u8> = (0..texts as u64).flat_map(u64::to_le_bytes).collect();
        let names = b"[\"a\",\"b\"]";
        let file = tempfile::NamedTempFile::new().unwrap();
        let tensors = [
            ("embeddings", TensorView::new(Dtype::F32, vec![texts, 2, 8], &values).unwrap()),
            ("rows", TensorView::new(Dtype::U64, vec![texts], &rows).unwrap()),
            ("labels", TensorView::new(Dtype::I64, vec![texts], &labels).unwrap()),
            ("label_names", TensorView::new(Dtype::U8, vec![names.len()], names).unwrap()),
        ];
        safetensors::serialize_to_file(tensors, None, file.path()).unwrap();
        file
    }

    fn read(file: &tempfile::NamedTempFile) -> States {
        States::of(&Vectors::open(file.path()).unwrap()).unwrap()
    }

    #[test]
    fn heaps_stay_apart_and_places_are_the_same_again() {
        let file = file(40);
        let (first, again) = (read(&file), read(&file));
        let labels = first.labels.unwrap();
        assert_eq!((labels.names.len(), labels.name(0), first.layers.len()), (2, "a", 2));
        for (layer, again) in first.layers.iter().zip(&again.layers) {
            assert_eq!((&layer.pca, &layer.tsne), (&again.pca, &again.tsne));
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
            let states = read(&file(texts));
            assert!(
                states.layers.iter().all(|layer| layer.tsne.is_empty() && layer.pca.len() == texts)
            );
        }
        let same = laid_out(DMatrix::from_element(20, 3, 1.0)).unwrap();
        assert_eq!((same.explained, same.tsne.len()), (0.0, 0));
    }
}
