//! Tensors to and from safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use super::durable::durably;

/// Every tensor of a safetensors file, and its metadata.
pub fn read_tensors(path: &Path) -> Result<(BTreeMap<String, Tensor>, HashMap<String, String>)> {
    let named = || path.display().to_string();
    let map = mapped(path).with_context(named)?;
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

/// The metadata of a safetensors file alone.
pub fn read_about(path: &Path) -> Result<HashMap<String, String>> {
    let named = || path.display().to_string();
    let (_, about) =
        SafeTensors::read_metadata(&mapped(path).with_context(named)?).with_context(named)?;
    Ok(about.metadata().clone().unwrap_or_default())
}

fn mapped(path: &Path) -> Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: checkpoints are written beside and renamed, never changed in place.
    Ok(unsafe { Mmap::map(&file) }?)
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
