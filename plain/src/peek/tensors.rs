//! Checkpoints, adapters, vectors and other safetensors files: what they are, their tensors, the first vectors.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Value, json};

use crate::shard::Layout;

pub fn show(file: &Path, layout: &Layout, n: usize, out: &mut dyn Write) -> Result<()> {
    let infos = layout.header.tensors();
    let values: usize = infos.values().map(|info| info.shape.iter().product::<usize>()).sum();
    let metadata: BTreeMap<_, _> = layout.header.metadata().iter().flatten().collect();
    let vectors = Vectors::of(layout);
    let (kind, config) = match vectors {
        Some(_) => ("vectors", None),
        None => kind(file, layout)?,
    };
    let mut line = json!({"kind": kind, "file": file, "tensors": infos.len(), "values": values,
        "bytes": layout.header.data_len(), "metadata": metadata});
    if let Some(config) = config {
        line["config"] = config;
    }
    if let Some(vectors) = &vectors {
        line["texts"] = json!(vectors.texts);
        line["width"] = json!(vectors.shape[vectors.shape.len() - 1]);
    }
    writeln!(out, "{line}")?;
    for name in layout.header.offset_keys() {
        let info = infos[&name];
        writeln!(out, "{}", json!({"tensor": name, "dtype": info.dtype, "shape": info.shape}))?;
    }
    let Some(vectors) = vectors else { return Ok(()) };
    (0..vectors.texts.min(n)).try_for_each(|i| vectors.show(i, out))
}

/// What a file without vectors is, and the config that lies beside it.
fn kind(file: &Path, layout: &Layout) -> Result<(&'static str, Option<Value>)> {
    if layout.about("state").is_some() {
        return Ok(("state", None));
    }
    let (kind, config) = match file.file_name().and_then(|name| name.to_str()) {
        Some("adapter_model.safetensors" | "adapter.safetensors") => {
            ("adapter", "adapter_config.json")
        }
        Some("model.safetensors") => ("checkpoint", "config.json"),
        _ => return Ok(("tensors", None)),
    };
    let config = file.with_file_name(config);
    if !config.exists() {
        return Ok((kind, None));
    }
    let named = || config.display().to_string();
    let text = fs::read(&config).with_context(named)?;
    let value = serde_json::from_slice(&text).context("not a config").with_context(named)?;
    Ok((kind, Some(value)))
}

/// Vectors as `embed -o` writes them.
struct Vectors<'a> {
    layout: &'a Layout,
    /// `[N, H]` or `[N, L + 1, H]`, of texts or of tokens.
    shape: &'a [usize],
    texts: usize,
    /// Bytes of one vector, of a text or of a token.
    each: u64,
    embeddings: u64,
    rows: u64,
    /// Of tokens: where each text begins.
    offsets: Option<u64>,
}

impl<'a> Vectors<'a> {
    /// Nothing where the tensors are others, or do not fit together.
    fn of(layout: &'a Layout) -> Option<Self> {
        let info = |name| layout.header.info(name);
        let at = |info: &TensorInfo| layout.data + info.data_offsets.0 as u64;
        let (embeddings, rows) = (info("embeddings")?, info("rows")?);
        let [texts] = rows.shape[..] else { return None };
        let offsets = info("offsets");
        let fits = match (offsets, &embeddings.shape[..]) {
            (None, [n, ..]) => *n == texts,
            (Some(offsets), _) => {
                offsets.dtype == Dtype::U64 && offsets.shape == [texts.checked_add(1)?]
            }
            _ => false,
        };
        let fits = fits && embeddings.dtype == Dtype::F32 && rows.dtype == Dtype::U64;
        let (shape, rows) = (&embeddings.shape[..], at(rows));
        // Without width there is no end to how many there may be.
        let fits = fits && [2, 3].contains(&shape.len()) && !shape[1..].contains(&0);
        // Where there are no vectors, their width may be any.
        let each = shape.iter().skip(1).try_fold(4u64, |n, &size| n.checked_mul(size as u64))?;
        let (embeddings, offsets) = (at(embeddings), offsets.map(at));
        fits.then_some(Self { layout, shape, texts, each, embeddings, rows, offsets })
    }

    /// Writes text `i` as a line, as `embed` does without -o. Value by value: a text may be long.
    fn show(&self, i: usize, out: &mut dyn Write) -> Result<()> {
        let row = self.u64_at(self.rows, i)?;
        let (from, tokens) = match self.offsets {
            None => (i, None),
            Some(offsets) => {
                let (from, to) = (self.u64_at(offsets, i)?, self.u64_at(offsets, i + 1)?);
                let fits = from <= to && to <= self.shape[0] as u64;
                ensure!(fits, "tensor `offsets`: entry {} is out of order or range", i + 1);
                (from as usize, Some((to - from) as usize))
            }
        };
        let mut values = self.from(self.embeddings + from as u64 * self.each)?;
        let shape: Vec<usize> = tokens.into_iter().chain(self.shape[1..].iter().copied()).collect();
        write!(out, "{{\"row\":{row},\"embedding\":")?;
        nested(&shape, &mut values, out)?;
        Ok(writeln!(out, "}}")?)
    }

    fn u64_at(&self, tensor: u64, i: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        self.from(tensor + i as u64 * 8)?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn from(&self, at: u64) -> Result<impl Read + 'a> {
        (&self.layout.file).seek(SeekFrom::Start(at))?;
        Ok(BufReader::new(&self.layout.file))
    }
}

/// Writes F32 values as nested lists; what is no number is null.
fn nested(shape: &[usize], values: &mut impl Read, out: &mut dyn Write) -> Result<()> {
    let Some((&n, inner)) = shape.split_first() else {
        let mut bytes = [0; 4];
        values.read_exact(&mut bytes)?;
        return Ok(serde_json::to_writer(out, &f32::from_le_bytes(bytes))?);
    };
    out.write_all(b"[")?;
    for i in 0..n {
        out.write_all(if i > 0 { b"," } else { b"" })?;
        nested(inner, values, out)?;
    }
    Ok(out.write_all(b"]")?)
}
