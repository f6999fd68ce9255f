//! A checkpoint with a row for each new token, made without LibTorch.
//!
//! The row of a new word is the mean of its pieces' rows: Fast Vocabulary Transfer (Gee et al. 2022, section 3). Rows
//! drawn at random instead would take probability from the words the model knows (Hewitt 2021, "Initializing New Word
//! Embeddings for Pretrained Language Models").

use std::borrow::Cow;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use crate::flags::fault;

/// How the names of tensors end that have a row, or a number, for each token.
const TABLES: [&str; 9] = [
    "word_embeddings.weight",
    "cls.predictions.decoder.weight",
    "lm_head.decoder.weight",
    "vocab_projector.weight",
    "cls.predictions.bias",
    "cls.predictions.decoder.bias",
    "lm_head.bias",
    "lm_head.decoder.bias",
    "vocab_projector.bias",
];

/// A tensor on its way into a file.
struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Cow<'a, [u8]>,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// A new token: its id, and the ids whose rows it begins as the mean of.
pub type New = (u32, Vec<u32>);

/// Opens the weights in `dir`.
pub fn map(dir: &Path) -> Result<Mmap> {
    let path = dir.join("model.safetensors");
    let named = || path.display().to_string();
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => fault(
            error.to_string(),
            "a whole checkpoint is wanted, its weights in one safetensors file",
        ),
        _ => error.into(),
    });
    // SAFETY: checkpoints are written beside and renamed, never changed in place.
    unsafe { Mmap::map(&file.with_context(named)?) }.with_context(named)
}

/// Writes the tensors in `weights` to `path`, those with a row for each of `vocab` tokens grown to `size` rows. Dtypes,
/// other tensors and metadata stay.
pub fn grow(weights: &[u8], vocab: usize, size: usize, new: &[New], path: &Path) -> Result<()> {
    let file = SafeTensors::deserialize(weights)?;
    let (_, about) = SafeTensors::read_metadata(weights)?;
    let mut all = Vec::new();
    let mut embedded = false;
    for (name, view) in file.iter() {
        let is_table = TABLES.iter().any(|end| name.ends_with(end));
        embedded |= name.ends_with(TABLES[0]);
        let tensor = match is_table {
            true => grown(&view, vocab, size, new).with_context(|| format!("tensor {name}"))?,
            false => Stored {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                data: Cow::Borrowed(view.data()),
            },
        };
        all.push((name.to_owned(), tensor));
    }
    ensure!(embedded, "it has no word embeddings (no tensor named …{})", TABLES[0]);
    Ok(safetensors::serialize_to_file(all, about.metadata().clone(), path)?)
}

fn grown(view: &TensorView, vocab: usize, size: usize, new: &[New]) -> Result<Stored<'static>> {
    let mut shape = view.shape().to_vec();
    ensure!(
        shape.first() == Some(&vocab),
        "its shape is {shape:?}, and config.json says `vocab_size` {vocab}"
    );
    shape[0] = size;
    let dtype = view.dtype();
    ensure!(
        matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16),
        "its dtype is {dtype:?}: F32, F16 and BF16 grow"
    );
    let width = shape[1..].iter().product::<usize>() * dtype.bitsize() / 8;
    let mut data = view.data().to_vec();
    data.resize(size * width, 0);
    for (id, pieces) in new {
        let rows = pieces.iter().map(|&piece| &data[piece as usize * width..][..width]);
        let mean = mean(dtype, rows.collect())?;
        data[*id as usize * width..][..width].copy_from_slice(&mean);
    }
    Ok(Stored { dtype, shape, data: data.into() })
}

/// The mean of rows, element by element, rounded once.
fn mean(dtype: Dtype, rows: Vec<&[u8]>) -> Result<Vec<u8>> {
    let step = dtype.bitsize() / 8;
    let mut mean = Vec::with_capacity(rows.first().map_or(0, |row| row.len()));
    for at in (0..mean.capacity()).step_by(step) {
        let values: Result<Vec<f32>> =
            rows.iter().map(|row| float(dtype, &row[at..at + step])).collect();
        let sum: f64 = values?.into_iter().map(f64::from).sum();
        push(&mut mean, dtype, sum / rows.len() as f64);
    }
    Ok(mean)
}

fn float(dtype: Dtype, bytes: &[u8]) -> Result<f32> {
    Ok(match dtype {
        Dtype::F32 => f32::from_le_bytes(bytes.try_into()?),
        Dtype::F16 => f16::from_le_bytes(bytes.try_into()?).to_f32(),
        Dtype::BF16 => bf16::from_le_bytes(bytes.try_into()?).to_f32(),
        other => bail!("its dtype is {other:?}"),
    })
}

fn push(row: &mut Vec<u8>, dtype: Dtype, value: f64) {
    match dtype {
        Dtype::F16 => row.extend(f16::from_f64(value).to_le_bytes()),
        Dtype::BF16 => row.extend(bf16::from_f64(value).to_le_bytes()),
        _ => row.extend((value as f32).to_le_bytes()),
    }
}
