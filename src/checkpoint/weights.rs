//! The weights of a whole model; what of its kind is not read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use tch::Tensor;

use super::read_tensors;
use crate::flags::fault;

/// Pickle runs what it reads; we do not read it.
pub fn no_pickle(file: &Path, safe: &Path) -> anyhow::Error {
    let cure = format!("python3 -c '{CONVERT}' {} {}", file.display(), safe.display());
    fault(format!("{}: pickle is not read, it can run programs; convert it", file.display()), cure)
}

/// Python that reads the tensors of a pickle and nothing else, and writes them as safetensors.
const CONVERT: &str = "import sys, torch as t; from safetensors.torch import save_file; d = t.load(sys.argv[1], \
    map_location=\"cpu\", weights_only=True); save_file({k: v.contiguous().clone() for k, v in d.items()}, \
    sys.argv[2], {\"format\": \"pt\"})";

/// Every tensor of the model in `dir`.
pub fn read_weights(dir: &Path) -> Result<BTreeMap<String, Tensor>> {
    let path = dir.join("model.safetensors");
    let has = |name: &str| dir.join(name).exists();
    if !path.exists() {
        let pickle = ["pytorch_model.bin", "model.pt"].into_iter().find(|name| has(name));
        if let Some(name) = pickle {
            return Err(no_pickle(&dir.join(name), &path));
        }
        let parts = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
        ensure!(
            !parts.into_iter().any(has),
            fault(
                format!("{}: its weights are split over several files", dir.display()),
                "save them in one: save_pretrained(…, max_shard_size=\"100GB\")"
            )
        );
    }
    Ok(read_tensors(&path)?.0)
}
