use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

/// The tensors a header declares, looked up with the dtype and length they must have.
pub struct Tensors<'a> {
    pub layout: &'a Metadata,
    /// Where their bytes begin.
    pub data: usize,
}

impl Tensors<'_> {
    pub fn get(&self, name: &str, dtype: Dtype) -> Result<(Range<usize>, usize)> {
        let info = self.layout.info(name).with_context(|| format!("tensor `{name}` is missing"))?;
        self.checked(name, info, dtype)
    }

    fn checked(
        &self,
        name: &str,
        info: &TensorInfo,
        dtype: Dtype,
    ) -> Result<(Range<usize>, usize)> {
        let [len] = info.shape[..] else { bail!("tensor `{name}` has shape {:?}", info.shape) };
        ensure!(info.dtype == dtype, "tensor `{name}` is {:?}, not {dtype:?}", info.dtype);
        let (from, to) = info.data_offsets;
        Ok((self.data + from..self.data + to, len))
    }

    pub fn sized(&self, name: &str, dtype: Dtype, len: usize) -> Result<Range<usize>> {
        let (range, found) = self.get(name, dtype)?;
        ensure!(found == len, "tensor `{name}` has {found} entries, not {len}");
        Ok(range)
    }

    pub fn optional(&self, name: &str, dtype: Dtype, len: usize) -> Result<Option<Range<usize>>> {
        self.layout.info(name).map(|_| self.sized(name, dtype, len)).transpose()
    }

    /// A tensor of any length, if it is there.
    pub fn any(&self, name: &str, dtype: Dtype) -> Result<Option<Range<usize>>> {
        let tensor = self.layout.info(name).map(|info| self.checked(name, info, dtype));
        Ok(tensor.transpose()?.map(|(range, _)| range))
    }
}
