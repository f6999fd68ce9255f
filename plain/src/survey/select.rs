//! The texts of a domain corpus that are nearest to those of a task, to pretrain on: kNN-TAPT (Gururangan et al. 2020,
//! section 5.2), and as many drawn at random to compare with.

use std::collections::{BTreeSet, HashSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::nearest::{Nearness, Neighbour, nearest};
use super::read::{check_tokenizer, shards, with_data};
use super::tfidf::TfIdf;
use super::vectors::Cosine;
use crate::data::{Input, choose};
use crate::encode::encode;
use crate::flags::{fault, usage};
use crate::random::generator;
use crate::shard::{Sequence, Shard, Writer, segments};
use crate::text::Encoding;

/// What to select, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Select {
    /// Write only the texts of DATA that are nearest to those of this token shard; DATA may be a shard itself
    #[arg(long, value_name = "SHARD", conflicts_with_all = ["stats", "compare", "train_tokenizer"])]
    pub select_near: Option<PathBuf>,

    /// Texts of DATA to take for each text of the task; one taken twice is written once
    #[arg(long, default_value_t = 50, value_parser = crate::flags::count, requires = "select_near")]
    pub k: u64,

    /// Nearness by these vectors, as embed -o writes them for both shards, instead of TF-IDF over tokens
    #[arg(long, value_name = "TASK,DATA", requires = "select_near")]
    pub vectors: Option<String>,

    /// Also write as many texts of DATA drawn at random
    #[arg(long, value_name = "FILE", requires = "select_near")]
    pub control: Option<PathBuf>,

    /// Also write which texts were near to each text of the task, and how near, as JSON lines
    #[arg(long, value_name = "FILE", requires = "select_near")]
    pub neighbours: Option<PathBuf>,
}

/// The corpus as a shard; of text, one that lies in a temporary file as long as this lives.
pub struct Corpus {
    shard: Shard,
    /// The text behind it, to be read again.
    input: Option<Input>,
    _file: Option<NamedTempFile>,
}

impl Corpus {
    /// Opens the data that `input` names; text is encoded, with the tokenizer that wrote `task`.
    pub fn open(input: &Input, dir: &Path, encoding: &Encoding, task: &Shard) -> Result<Self> {
        if let Some((name, segments)) = shards(input)? {
            let shard = Shard::read(segments)?;
            check_plain(&name, &shard)?;
            return Ok(Self { shard, input: None, _file: None });
        }
        if encoding.tokenizer.is_none() {
            let cure = "name the one that wrote the task's shard, or give DATA as a shard of it";
            bail!(usage("no --tokenizer given").hint(cure));
        }
        let with = encoding.open()?;
        let cure = "name the model whose tokenizer wrote the task's shard";
        ensure!(
            with.digest() == task.header().tokenizer,
            fault("--tokenizer is not the one that wrote the task's shard", cure)
        );
        let file = NamedTempFile::new().context("temporary file")?;
        let out = BufWriter::new(&file);
        with_data(input, dir, |data| encode(data, &with, String::new(), out).map(drop))?;
        let shard = Shard::read([segments(file.path())?])?;
        Ok(Self { shard, input: Some(input.clone()), _file: Some(file) })
    }

    /// Writes the texts at `places`, as a shard or as rows of the source; `about` says how they were chosen.
    pub fn write(
        &self,
        places: &[usize],
        about: &Value,
        command: String,
        out: &mut impl Write,
    ) -> Result<()> {
        let mut header = self.shard.header().clone();
        header.source["select"] = about.clone();
        header.command = command;
        let mut writer = Writer::new(out, header).problem(self.shard.problem());
        if self.shard.is_labelled() {
            writer = writer.labels(self.shard.labels().names().to_vec());
        }
        // A text that is in several sequences is named once.
        let text = |at: usize| Some((self.shard.view(at).row, self.shard.view(at).texts?));
        let named = places.iter().all(|&at| text(at).is_some());
        for (i, &at) in places.iter().enumerate() {
            let own = text(at).filter(|_| named && (i == 0 || text(places[i - 1]) != text(at)));
            own.into_iter().for_each(|(_, texts)| writer.texts(texts));
            writer.push(self.sequence(at))?;
        }
        writer.finish().map(|_| ())
    }

    fn sequence(&self, at: usize) -> Sequence {
        let view = self.shard.view(at);
        Sequence {
            tokens: view.tokens.iter().collect(),
            words: (0..view.tokens.len()).map(|t| view.begins_word(t)).collect(),
            second: view.second.map(|second| second as u16),
            label: self.shard.label(at),
            row: view.row,
        }
    }

    /// Reads the text again and writes the rows at `places` as JSON lines.
    pub fn write_rows(&self, places: &[usize], dir: &Path, out: &mut impl Write) -> Result<()> {
        let Some(input) = &self.input else {
            let cure = "without --jsonl the tokens of those selected are written";
            bail!(usage("--jsonl writes texts, and DATA is a token shard").hint(cure));
        };
        let mut places = places.iter().copied().peekable();
        let data = input.open(dir)?;
        for (at, example) in data.examples.enumerate() {
            let example = example?;
            if places.next_if_eq(&at).is_some() {
                data.kind.write_row(&example, out)?;
            }
        }
        ensure!(
            places.next().is_none(),
            "{}: it changed while it was read",
            input.source.join(" ")
        );
        Ok(())
    }

    /// The first of each text, by its tokens.
    fn distinct(&self) -> Vec<usize> {
        let digest = |at| -> [u8; 16] {
            let mut digest = [0; 16];
            let tokens = Sha256::digest(self.shard.view(at).tokens.bytes());
            digest.copy_from_slice(&tokens[..16]);
            digest
        };
        let digests: Vec<[u8; 16]> = (0..self.shard.len()).into_par_iter().map(digest).collect();
        let mut seen = HashSet::new();
        (0..digests.len()).filter(|&at| seen.insert(digests[at])).collect()
    }
}

/// `n` places of the pool, each at most once, every set of `n` equally likely.
fn draw(pool: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let drawn = choose(pool.len(), n, &mut generator("control", seed, 0));
    pool.iter().zip(drawn).filter(|(_, drawn)| *drawn).map(|(at, _)| *at).collect()
}

fn check_plain(name: &str, shard: &Shard) -> Result<()> {
    let cure = "select first, and mask what was selected";
    ensure!(!shard.is_masked(), fault(format!("{name}: is masked"), cure));
    Ok(())
}

/// What was found: places in the corpus, in its order.
pub struct Selected {
    pub corpus: Corpus,
    task: Shard,
    neighbours: Vec<Vec<Neighbour>>,
    pub near: Vec<usize>,
    /// As many drawn without replacement from all texts that differ.
    pub control: Vec<usize>,
    distinct: usize,
    about: Value,
}

impl Select {
    /// Finds the neighbours of the texts of `task` in the data that `input` names.
    pub fn find(
        &self,
        task: &Path,
        input: &Input,
        dir: &Path,
        encoding: &Encoding,
    ) -> Result<Selected> {
        let name = task.display().to_string();
        let shard = Shard::open_one(task)?;
        check_plain(&name, &shard)?;
        let corpus = Corpus::open(input, dir, encoding, &shard)?;
        let pool = corpus.distinct();
        let by = if self.vectors.is_some() { "vectors" } else { "tfidf" };
        let nearness: Box<dyn Nearness> = match self.vector_files()? {
            Some(files) => Box::new(Cosine::open(files, [&shard, &corpus.shard])?),
            None => {
                let found = &corpus.shard.header().tokenizer;
                check_tokenizer(&input.source.join(" "), found, &shard.header().tokenizer)?;
                Box::new(TfIdf::new(&shard, &corpus.shard, &pool))
            }
        };
        let neighbours = nearest(&*nearness, &pool, self.k as usize);
        drop(nearness);
        let near: BTreeSet<usize> = neighbours.iter().flatten().map(|near| near.at).collect();
        Ok(Selected {
            control: draw(&pool, near.len(), input.seed),
            near: near.into_iter().collect(),
            distinct: pool.len(),
            about: json!({"near": name, "k": self.k, "by": by}),
            task: shard,
            corpus,
            neighbours,
        })
    }

    fn vector_files(&self) -> Result<Option<[&Path; 2]>> {
        let Some(files) = &self.vectors else { return Ok(None) };
        let Some((task, corpus)) = files.split_once(',') else {
            let cure = "embed MODEL SHARD -o FILE makes one";
            bail!(usage(format!("--vectors {files}: two files are wanted, TASK,DATA")).hint(cure));
        };
        Ok(Some([Path::new(task), Path::new(corpus)]))
    }
}

impl Selected {
    /// How those near, or those drawn with `seed`, were chosen: for the header of their shard.
    pub fn about(&self, seed: Option<u64>) -> Value {
        let mut about = self.about.clone();
        seed.iter().for_each(|seed| about["control"] = json!({"seed": seed}));
        about
    }

    /// A JSON line for each text of the task: its row, and the rows near it with their cosines.
    pub fn write_neighbours(&self, out: &mut impl Write) -> Result<()> {
        let row = |at: usize| self.corpus.shard.view(at).row;
        for (i, found) in self.neighbours.iter().enumerate() {
            let near: Vec<Value> = found
                .iter()
                .map(|near| json!({"row": row(near.at), "score": near.score}))
                .collect();
            writeln!(out, "{}", json!({"row": self.task.view(i).row, "near": near}))?;
        }
        Ok(())
    }

    /// One line on what was found.
    pub fn summary(&self) -> String {
        let texts = self.corpus.shard.len();
        let mut best: Vec<f32> = self
            .neighbours
            .iter()
            .filter_map(|found| found.first())
            .map(|near| near.score)
            .collect();
        best.sort_unstable_by(f32::total_cmp);
        let median = best.get(best.len() / 2).copied().unwrap_or(0.0);
        format!(
            "{} of {texts} texts ({} differ) near {} of the task; median cosine of the nearest {median:.2}",
            self.near.len(),
            self.distinct,
            self.task.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::tests::shard;

    #[test]
    fn the_first_of_each_text_counts() {
        let shard = shard(&[&[5, 6], &[6, 5], &[5, 6], &[5], &[6, 5]]);
        let corpus = Corpus { shard, input: None, _file: None };
        assert_eq!(corpus.distinct(), [0, 1, 3]);
    }

    proptest! {
        #[test]
        fn the_control_is_drawn_without_replacement(pool in 0..300usize, share in 0.0..=1.0, seed: u64) {
            let pool: Vec<usize> = (0..pool).map(|at| 3 * at + 1).collect();
            let n = (pool.len() as f64 * share) as usize;
            let drawn = draw(&pool, n, seed);
            prop_assert_eq!(drawn.len(), n);
            prop_assert!(drawn.is_sorted_by(|a, b| a < b));
            prop_assert!(drawn.iter().all(|at| pool.contains(at)));
            prop_assert_eq!(&drawn, &draw(&pool, n, seed));
        }
    }
}
