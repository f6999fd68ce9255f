//! Cosine of vectors as `embed -o` writes them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::nearest::Nearness;
use crate::flags::fault;
use crate::shard::Shard;

/// `embeddings` F32 `[N, H]`, a vector for each text of a shard, in its order.
struct Vectors {
    map: Mmap,
    /// Where the values lie in the file.
    from: usize,
    width: usize,
    /// 1 / the length of each vector; 0 for a vector of length 0.
    scales: Vec<f32>,
}

impl Vectors {
    /// Opens the vectors of `shard`. Fails where they are of other rows, not one a text, or no numbers.
    fn open(path: &Path, shard: &Shard) -> Result<Self> {
        Self::read(path, shard).with_context(|| path.display().to_string())
    }

    fn read(path: &Path, shard: &Shard) -> Result<Self> {
        // SAFETY: vectors are written beside and renamed, never changed in place.
        let map = unsafe { Mmap::map(&File::open(path)?)? };
        let tensors = SafeTensors::deserialize(&map).context("not a safetensors file")?;
        let found = tensors.tensor("embeddings").context("not vectors as embed writes them")?;
        let [texts, width] = found.shape()[..] else {
            let cause =
                format!("one vector a text is wanted, and `embeddings` is {:?}", found.shape());
            bail!(fault(cause, "embed without --layer all and --pool none gives them"));
        };
        let is_f32 = found.dtype() == Dtype::F32 && width > 0;
        ensure!(is_f32, "`embeddings` is {:?} {:?}, not F32 [N, H]", found.dtype(), found.shape());
        let rows = tensors.tensor("rows").context("not vectors as embed writes them")?;
        check_rows(rows.data(), texts, shard)?;
        let from = found.data().as_ptr() as usize - map.as_ptr() as usize;
        let mut vectors = Self { map, from, width, scales: Vec::new() };
        vectors.scales = (0..texts).map(|i| vectors.scale(i)).collect::<Result<_>>()?;
        Ok(vectors)
    }

    fn scale(&self, i: usize) -> Result<f32> {
        let norm = self.vector(i).map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        ensure!(norm.is_finite(), "vector {i} is not all numbers");
        Ok(if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 })
    }

    fn vector(&self, i: usize) -> impl Iterator<Item = f32> {
        let bytes = &self.map[self.from + i * self.width * 4..][..self.width * 4];
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Vector i at length 1.
    fn unit(&self, i: usize) -> impl Iterator<Item = f32> {
        self.vector(i).map(move |x| x * self.scales[i])
    }
}

fn check_rows(rows: &[u8], texts: usize, shard: &Shard) -> Result<()> {
    let cure = "the vectors must be those of the shard: embed MODEL SHARD -o FILE";
    let (found, wanted) = (rows.chunks_exact(8), shard.len());
    ensure!(
        texts == wanted && found.len() == wanted,
        fault(format!("{texts} vectors, but the shard has {wanted} sequences"), cure)
    );
    for (i, row) in found.enumerate() {
        let mut word = [0; 8];
        word.copy_from_slice(row);
        let (row, wanted) = (u64::from_le_bytes(word), shard.view(i).row);
        let cause =
            || format!("vector {i} is of row {row}, sequence {i} of the shard of row {wanted}");
        ensure!(row == wanted, fault(cause(), cure));
    }
    Ok(())
}

/// The vectors of a task and of a corpus.
pub struct Cosine {
    /// `[tasks, H]`, each at length 1.
    task: Vec<f32>,
    /// Whether a text of the task has any direction.
    has_direction: Vec<bool>,
    corpus: Vectors,
}

impl Cosine {
    pub fn open([task, corpus]: [&Path; 2], shards: [&Shard; 2]) -> Result<Self> {
        let [tasks, corpus] = [Vectors::open(task, shards[0])?, Vectors::open(corpus, shards[1])?];
        ensure!(
            tasks.width == corpus.width,
            "{}: vectors of {} numbers, but those of the corpus have {}",
            task.display(),
            tasks.width,
            corpus.width
        );
        let has_direction = tasks.scales.iter().map(|scale| *scale > 0.0).collect();
        let task = (0..tasks.scales.len()).flat_map(|i| tasks.unit(i)).collect();
        Ok(Self { task, has_direction, corpus })
    }
}

impl Nearness for Cosine {
    fn tasks(&self) -> usize {
        self.has_direction.len()
    }

    /// A vector of length 0 is no neighbour and has none.
    fn score(&self, at: usize, scores: &mut [f32]) {
        if self.corpus.scales[at] == 0.0 {
            return scores.fill(f32::NEG_INFINITY);
        }
        let vector: Vec<f32> = self.corpus.unit(at).collect();
        let tasks = self.task.chunks_exact(self.corpus.width).zip(&self.has_direction);
        for (score, (task, has_direction)) in scores.iter_mut().zip(tasks) {
            *score = if *has_direction { dot(task, &vector) } else { f32::NEG_INFINITY };
        }
    }
}

/// In lanes, so that the compiler can use vector registers; the order of the sum is fixed.
fn dot(xs: &[f32], ys: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (xs, ys) = (xs.chunks_exact(LANES), ys.chunks_exact(LANES));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (xs, ys) in xs.zip(ys) {
        for lane in 0..LANES {
            sums[lane] += xs[lane] * ys[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::tensor::TensorView;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::shard::tests::shard;
    use crate::survey::nearest::nearest;

    fn bytes<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
        values.into_iter().flatten().collect()
    }

    fn file(vectors: &[Vec<f32>], shape: &[usize], rows: &[u64]) -> NamedTempFile {
        let values = bytes(vectors.iter().flatten().map(|x| x.to_le_bytes()));
        let rows = bytes(rows.iter().map(|row| row.to_le_bytes()));
        let embeddings = TensorView::new(Dtype::F32, shape.to_vec(), &values).unwrap();
        let rows = TensorView::new(Dtype::U64, vec![rows.len() / 8], &rows).unwrap();
        let file = NamedTempFile::new().unwrap();
        let tensors = [("embeddings", embeddings), ("rows", rows)];
        safetensors::serialize_to_file(tensors, None, file.path()).unwrap();
        file
    }

    fn texts(n: usize) -> Shard {
        shard(&vec![&[5][..]; n])
    }

    fn cause(file: &NamedTempFile, n: usize) -> String {
        let Err(error) = Vectors::read(file.path(), &texts(n)) else { panic!("no error") };
        error.to_string()
    }

    #[test]
    fn foreign_vectors_are_refused() {
        let two = [vec![1.0, 2.0], vec![3.0, f32::NAN]];
        assert_eq!(cause(&file(&two, &[2, 2], &[0, 1]), 2), "vector 1 is not all numbers");
        let wanted = "vector 1 is of row 7, sequence 1 of the shard of row 1";
        assert_eq!(cause(&file(&two, &[2, 2], &[0, 7]), 2), wanted);
        let wanted = "2 vectors, but the shard has 3 sequences";
        assert_eq!(cause(&file(&two, &[2, 2], &[0, 1]), 3), wanted);
        let wanted = "one vector a text is wanted, and `embeddings` is [1, 2, 2]";
        assert_eq!(cause(&file(&two, &[1, 2, 2], &[0]), 1), wanted);
        let wanted = "`embeddings` is F32 [2, 0], not F32 [N, H]";
        assert_eq!(cause(&file(&[], &[2, 0], &[0, 1]), 2), wanted);
        let text = NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "some text").unwrap();
        assert_eq!(cause(&text, 1), "not a safetensors file");
    }

    #[test]
    fn widths_must_agree() {
        let (a, b) = (file(&[vec![1.0]], &[1, 1], &[0]), file(&[vec![1.0; 2]], &[1, 2], &[0]));
        let opened = Cosine::open([a.path(), b.path()], [&texts(1), &texts(1)]);
        let error = opened.map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("vectors of 1 numbers, but those of the corpus have 2"), "{error}");
    }

    proptest! {
        #[test]
        fn scores_are_cosines(
            task in prop::collection::vec(prop::collection::vec(-3..4i8, 19), 1..4),
            corpus in prop::collection::vec(prop::collection::vec(-3..4i8, 19), 1..9),
        ) {
            let float = |all: &[Vec<i8>]| -> Vec<Vec<f32>> {
                all.iter().map(|v| v.iter().map(|x| f32::from(*x)).collect()).collect()
            };
            let open = |all: &[Vec<i8>]| {
                file(&float(all), &[all.len(), 19], &(0..all.len() as u64).collect::<Vec<_>>())
            };
            let (a, b) = (open(&task), open(&corpus));
            let shards = [&texts(task.len()), &texts(corpus.len())];
            let cosine = Cosine::open([a.path(), b.path()], shards).unwrap();
            let pool: Vec<usize> = (0..corpus.len()).collect();
            let dot = |a: &[i8], b: &[i8]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            for (task, found) in task.iter().zip(nearest(&cosine, &pool, corpus.len())) {
                let some = corpus.iter().filter(|text| dot(task, task) * dot(text, text) > 0.0);
                prop_assert_eq!(found.len(), some.count());
                for near in found {
                    let text = &corpus[near.at];
                    let wanted = dot(task, text) / (dot(task, task) * dot(text, text)).sqrt();
                    prop_assert!((wanted - f64::from(near.score)).abs() < 1e-5);
                }
            }
        }
    }
}
