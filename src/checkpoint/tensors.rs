//! Tensors to and from safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::durable::durably;

/// Every tensor of a safetensors file, and its metadata.
pub fn read_tensors(path: &Path) -> Result<(BTreeMap<String, Tensor>, HashMap<String, String>)> {
    let named = || path.display().to_string();
    let file = File::open(path).with_context(named)?;
    // SAFETY: checkpoints are written beside and renamed, never changed in place.
    let map = unsafe { Mmap::map(&file) }.with_context(named)?;
    let file = SafeTensors::deserialize(&map).with_context(named)?;
    let (_, about) = SafeTensors::read_metadata(&map).with_context(named)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let at = || format!("{}: tensor {name}", named());
        let kind = kind(view.dtype()).with_context(at)?;
        let shape = shape(view.shape()).with_context(at)?;
        tensors.insert(name.to_owned(), Tensor::from_data_size(view.data(), &shape, kind));
    }
    Ok((tensors, about.metadata().clone().unwrap_or_default()))
}

/// Fails where LibTorch could not count to the end of it: beside a 0, the other sizes of a shape may be any.
fn shape(sizes: &[usize]) -> Result<Vec<i64>> {
    let sizes: Option<Vec<i64>> = sizes.iter().map(|&size| size.try_into().ok()).collect();
    let counted = |sizes: &Vec<i64>| {
        sizes.iter().try_fold(1i64, |count, &size| count.checked_mul(size.max(1))).is_some()
    };
    sizes.filter(counted).context("a shape that no tensor has")
}

fn kind(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => bail!("dtype {other:?} is none that a checkpoint has"),
    })
}

/// The bytes of one tensor, on their way into a file.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Bytes {
    fn new(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            other => bail!("{other:?} tensors are not written"),
        };
        let mut data = vec![0; tensor.numel() * dtype.bitsize() / 8];
        tensor.copy_data_u8(&mut data, tensor.numel());
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok(Self { dtype, shape, data })
    }
}

impl Bytes {
    fn counts(values: &[u64]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::U64, shape: vec![values.len()], data }
    }
}

impl View for Bytes {
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

/// Writes tensors beside `path`, then renames: what stood there is never half overwritten.
///
/// `about` is one key and value of metadata: more would come out in no fixed order.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    about: (&str, String),
) -> Result<()> {
    let bytes = tensors.into_iter().map(|(name, tensor)| Ok((name, Bytes::new(tensor)?)));
    write(path, bytes.collect::<Result<_>>()?, about)
}

/// Writes vectors of texts: `embeddings` F32 `[N, …]` and `rows` U64 `[N]`; or, without pooling, `[T, …]` and
/// where each text begins, `offsets` U64 `[N + 1]`.
pub fn write_vectors(
    out: &mut impl Write,
    vectors: &[Tensor],
    rows: &[u64],
    pooled: bool,
) -> Result<()> {
    let all = match (vectors.is_empty(), pooled) {
        (true, _) => Tensor::zeros([0, 0], (Kind::Float, Device::Cpu)),
        (_, true) => Tensor::stack(vectors, 0),
        (_, false) => Tensor::cat(vectors, 0),
    };
    let mut bytes = vec![
        ("embeddings".to_owned(), Bytes::new(&all)?),
        ("rows".to_owned(), Bytes::counts(rows)),
    ];
    if !pooled {
        let ends = vectors.iter().scan(0, |end, vector| {
            *end += vector.size()[0] as u64;
            Some(*end)
        });
        let offsets: Vec<u64> = std::iter::once(0).chain(ends).collect();
        bytes.push(("offsets".to_owned(), Bytes::counts(&offsets)));
    }
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(out.write_all(&safetensors::serialize(bytes, Some(about))?)?)
}

/// Writes vectors of texts as JSON lines: `{"row":0,"embedding":[…]}`.
pub fn write_vector_lines(out: &mut impl Write, vectors: &[Tensor], rows: &[u64]) -> Result<()> {
    for (row, vector) in rows.iter().zip(vectors) {
        let line = Line { row: *row, embedding: nested(vector)? };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(())
}

/// Serialized as it is: a JSON value would widen the numbers to digits they do not have.
#[derive(Serialize)]
struct Line {
    row: u64,
    embedding: Nested,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Nested {
    Numbers(Vec<f32>),
    Rows(Vec<Nested>),
}

fn nested(tensor: &Tensor) -> Result<Nested> {
    if tensor.dim() == 1 {
        return Ok(Nested::Numbers(Vec::try_from(tensor)?));
    }
    (0..tensor.size()[0]).map(|i| nested(&tensor.get(i))).collect::<Result<_>>().map(Nested::Rows)
}

fn write(path: &Path, bytes: Vec<(String, Bytes)>, about: (&str, String)) -> Result<()> {
    let about = HashMap::from([(about.0.to_owned(), about.1)]);
    let size = bytes.iter().map(|(_, bytes)| bytes.data_len()).sum();
    durably(path, size, |beside| {
        // The crate would make a private file; one that is there keeps the rights the umask gives.
        File::create(beside)?;
        Ok(safetensors::serialize_to_file(bytes, Some(about), beside)?)
    })
}

#[cfg(test)]
mod tests {
    use super::shape;

    #[test]
    fn shapes_beside_a_0_are_counted_too() {
        assert_eq!(shape(&[]).unwrap(), [0i64; 0]);
        assert_eq!(shape(&[0, 1 << 40, 2]).unwrap(), [0, 1 << 40, 2]);
        assert!(shape(&[0, 1 << 63]).is_err());
        assert!(shape(&[0, 1 << 40, 1 << 40]).is_err());
    }
}
