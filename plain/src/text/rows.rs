//! A checkpoint with a row for each new token, made without LibTorch.
//!
//! The row of a new word is the mean of its pieces' rows: Fast Vocabulary Transfer (Gee et al. 2022, section 3). Rows
//! drawn at random instead would take probability from the words the model knows (Hewitt 2021, "Initializing New Word
//! Embeddings for Pretrained Language Models").

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

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

/// The tensors of a file to be, and its metadata.
pub struct Grown<'a> {
    tensors: Vec<(String, Stored<'a>)>,
    about: Option<HashMap<String, String>>,
}

impl Grown<'_> {
    pub fn write(self, path: &Path) -> Result<()> {
        let written = safetensors::serialize_to_file(self.tensors, self.about, path);
        // The whole error would say its cause twice.
        written.map_err(|error| match error {
            SafeTensorError::IoError(error) => error.into(),
            error => error.into(),
        })
    }
}

/// The tensors in `weights`, those with a row for each of `vocab` tokens grown to `size` rows. Dtypes, other tensors and
/// metadata stay.
pub fn grow<'a>(weights: &'a [u8], vocab: usize, size: usize, new: &[New]) -> Result<Grown<'a>> {
    let file = SafeTensors::deserialize(weights)?;
    let (_, about) = SafeTensors::read_metadata(weights)?;
    let mut tensors = Vec::new();
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
        tensors.push((name.to_owned(), tensor));
    }
    ensure!(embedded, "it has no word embeddings (no tensor named …{})", TABLES[0]);
    Ok(Grown { tensors, about: about.metadata().clone() })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tensors with a row for each of three tokens, and one with other rows.
    fn weights(dtype: Dtype, values: &[f64]) -> Vec<u8> {
        let mut data = Vec::new();
        values.iter().for_each(|&value| push(&mut data, dtype, value));
        let stored = |shape: &[usize], bytes: &[u8]| Stored {
            dtype,
            shape: shape.to_vec(),
            data: bytes.to_vec().into(),
        };
        let bias = &data[..data.len() / 2];
        let all = [
            ("x.embeddings.word_embeddings.weight", stored(&[3, 2], &data)),
            ("lm_head.bias", stored(&[3], bias)),
            ("x.layer.bias", stored(&[3], bias)),
        ];
        safetensors::serialize(all, None).unwrap()
    }

    #[test]
    fn new_rows_are_means_in_the_dtype_of_the_file() {
        let values = [1.0, 2.0, 3.0, 4.0, 1.0 / 3.0, -6.5];
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let path = tempfile::NamedTempFile::new().unwrap();
            let old = weights(dtype, &values);
            let new = [(3, vec![0, 2]), (4, vec![1, 1])];
            grow(&old, 3, 5, &new).unwrap().write(path.path()).unwrap();
            let new = std::fs::read(path.path()).unwrap();
            let (old, new) =
                (SafeTensors::deserialize(&old).unwrap(), SafeTensors::deserialize(&new).unwrap());
            let get = |name: &str| {
                let view = new.tensor(name).unwrap();
                let step = dtype.bitsize() / 8;
                let numbers = view.data().chunks(step).map(|b| float(dtype, b).unwrap());
                (view.dtype(), view.shape().to_vec(), numbers.collect::<Vec<f32>>())
            };
            let (found, shape, rows) = get("x.embeddings.word_embeddings.weight");
            assert_eq!((found, shape), (dtype, vec![5, 2]));
            let third = {
                let mut bytes = Vec::new();
                push(&mut bytes, dtype, (1.0 + f64::from(rows[4])) / 2.0);
                float(dtype, &bytes).unwrap()
            };
            assert_eq!(rows[6..], [third, -2.25, 3.0, 4.0]);
            let (_, shape, bias) = get("lm_head.bias");
            assert_eq!((shape, &bias[3..]), (vec![5], &[2.0, 2.0][..]));
            let same = "x.layer.bias";
            assert_eq!(old.tensor(same).unwrap().data(), new.tensor(same).unwrap().data());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let cause =
            |bytes: &[u8], vocab| format!("{:#}", grow(bytes, vocab, 9, &[]).err().unwrap());
        let said = cause(&weights(Dtype::F32, &[0.0; 6]), 4);
        assert!(said.contains("tensor ") && said.contains("`vocab_size` 4"), "{said}");
        let said = cause(&weights(Dtype::I32, &[0.0; 6]), 3);
        assert!(said.contains("its dtype is I32"), "{said}");
        let none = safetensors::serialize::<_, Stored, _>([("a", stored_one())], None).unwrap();
        assert!(cause(&none, 3).contains("no word embeddings"));
    }

    fn stored_one() -> Stored<'static> {
        Stored { dtype: Dtype::F32, shape: vec![1], data: vec![0; 4].into() }
    }

    #[test]
    fn a_cause_is_said_once() {
        let grown = Grown { tensors: Vec::new(), about: None };
        let error = grown.write(Path::new("/nowhere/a.safetensors")).unwrap_err();
        assert_eq!(format!("{error:#}").matches("os error 2").count(), 1, "{error:#}");
    }
}
