//! Vectors as a safetensors file that is written from front to back: how many there are is known at its end.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::Vectors;
use crate::cli::{Output, Spool};

/// Bytes of the length and the header, which spaces fill up: more than any header here has.
const HEADER: usize = 1024;
/// Of the bytes of `rows` and `offsets`; torch wants tensors to begin at a multiple of the size of their numbers.
const ALIGNED: u64 = 8;

/// `embeddings` F32 `[N, …]` and `rows` U64 `[N]`; or, without pooling, `[T, …]` and where each text begins, `offsets`
/// U64 `[N + 1]`; where every text has a class, also `labels` I64 `[N]` and `label_names`, U8, a JSON list. Only what comes after the embeddings is set aside, or where the header cannot be written last, as
/// into a pipe, all of it.
pub struct VectorFile {
    out: Output,
    /// The embeddings, where the header must be written before them.
    embeddings: Option<Spool>,
    rows: Spool,
    offsets: Option<Spool>,
    classes: Classes,
    /// Of one vector.
    shape: Vec<usize>,
    texts: u64,
    vectors: u64,
}

impl VectorFile {
    pub fn begin(mut out: Output, shape: Vec<usize>, pooled: bool) -> Result<Self> {
        let embeddings = match out.can_overwrite() {
            true => {
                out.write_all(&[b' '; HEADER])?;
                None
            }
            false => Some(Spool::new()?),
        };
        let mut offsets = if pooled { None } else { Some(Spool::new()?) };
        offsets.iter_mut().try_for_each(|offsets| offsets.write_all(&0u64.to_le_bytes()))?;
        let rows = Spool::new()?;
        Ok(Self {
            out,
            embeddings,
            rows,
            offsets,
            classes: Classes::new()?,
            shape,
            texts: 0,
            vectors: 0,
        })
    }

    pub fn write(&mut self, vectors: &Vectors) -> Result<()> {
        let mut bytes = vec![0; 4 * vectors.numbers.len()];
        for (bytes, number) in bytes.chunks_exact_mut(4).zip(&vectors.numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        match &mut self.embeddings {
            Some(spool) => spool.write_all(&bytes)?,
            None => self.out.write_all(&bytes)?,
        }
        vectors.labels.iter().try_for_each(|label| self.classes.add(label.as_deref()))?;
        for (row, &count) in vectors.rows.iter().zip(&vectors.counts) {
            self.rows.write_all(&row.to_le_bytes())?;
            self.texts += 1;
            self.vectors += count as u64;
            if let Some(offsets) = &mut self.offsets {
                offsets.write_all(&self.vectors.to_le_bytes())?;
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        let (header, filling) = self.header()?;
        let in_place = self.embeddings.is_none();
        if let Some(embeddings) = self.embeddings {
            self.out.write_all(&header)?;
            embeddings.copy_to(&mut self.out)?;
        }
        self.out.write_all(&vec![0; filling])?;
        self.rows.copy_to(&mut self.out)?;
        self.offsets.map_or(Ok(()), |offsets| offsets.copy_to(&mut self.out))?;
        if let Some(names) = self.classes.names(self.texts)? {
            self.classes.numbers.copy_to(&mut self.out)?;
            self.out.write_all(&names)?;
        }
        if in_place {
            self.out.overwrite(&header)?;
        }
        self.out.commit()
    }

    /// The first `HEADER` bytes, and how many bytes come after the embeddings to align the rest.
    fn header(&self) -> Result<(Vec<u8>, usize)> {
        let mut tensors = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
        let mut end = 0;
        let mut add = |name: &str, dtype: &str, shape: Value, bytes: u64| {
            let offsets = [end, end + bytes];
            end += bytes;
            let about = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
            tensors.insert(name.to_owned(), about);
        };
        let mut shape = vec![self.vectors];
        shape.extend(self.shape.iter().map(|&size| size as u64));
        let bytes = 4 * shape.iter().product::<u64>();
        add("embeddings", "F32", json!(shape), bytes);
        let filling = bytes.next_multiple_of(ALIGNED) - bytes;
        if filling > 0 {
            add("padding", "U8", json!([filling]), filling);
        }
        add("rows", "U64", json!([self.texts]), 8 * self.texts);
        if self.offsets.is_some() {
            add("offsets", "U64", json!([self.texts + 1]), 8 * (self.texts + 1));
        }
        if let Some(names) = self.classes.names(self.texts)? {
            add("labels", "I64", json!([self.texts]), 8 * self.texts);
            add("label_names", "U8", json!([names.len()]), names.len() as u64);
        }
        let mut header = (HEADER as u64 - 8).to_le_bytes().to_vec();
        serde_json::to_writer(&mut header, &tensors)?;
        ensure!(header.len() <= HEADER, "the header has {} bytes", header.len());
        header.resize(HEADER, b' ');
        Ok((header, filling as usize))
    }
}

/// The classes of texts, numbered as they come.
struct Classes {
    /// Where the numbers are set aside, I64.
    numbers: Spool,
    known: HashMap<String, usize>,
    labelled: u64,
}

impl Classes {
    fn new() -> Result<Self> {
        Ok(Self { numbers: Spool::new()?, known: HashMap::new(), labelled: 0 })
    }

    fn add(&mut self, label: Option<&str>) -> Result<()> {
        let Some(label) = label else { return Ok(()) };
        let next = self.known.len();
        let number = match self.known.get(label) {
            Some(number) => *number,
            None => *self.known.entry(label.to_owned()).or_insert(next),
        };
        self.labelled += 1;
        Ok(self.numbers.write_all(&(number as i64).to_le_bytes())?)
    }

    /// The names, a JSON list, in the order of the numbers; nothing where not each of the texts has a class.
    fn names(&self, texts: u64) -> Result<Option<Vec<u8>>> {
        if self.labelled < texts || texts == 0 {
            return Ok(None);
        }
        let mut names: Vec<(&usize, &String)> =
            self.known.iter().map(|(name, number)| (number, name)).collect();
        names.sort();
        let names: Vec<&String> = names.into_iter().map(|(_, name)| name).collect();
        Ok(Some(serde_json::to_vec(&names)?))
    }
}
