//! A look at text before anything is trained on it: statistics of a split, how far two bodies of text lie apart, and
//! which texts of one are near to those of another.

mod compare;
mod leak;
mod lengths;
mod nearest;
mod read;
mod select;
mod stats;
mod tfidf;
mod unigrams;
mod vectors;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::cli;
use crate::data::{self, Input};
use crate::flags::{fault, usage};
use crate::text::{Encoding, Tokenizer};
use compare::Comparison;
use leak::Against;
use select::{Select, Selected};
use stats::Stats;

/// What to look at.
#[derive(Debug, Clone, clap::Args)]
pub struct Survey {
    /// Count rows, labels, lengths, duplicates, with --tokenizer also tokens, and write no shard: JSON on standard
    /// output, a picture on standard error
    #[arg(long, conflicts_with_all = ["compare", "jsonl", "train_tokenizer"])]
    stats: bool,

    /// Compare the words of two data sets, files or token shards, and write no shard: JSON on standard output, a
    /// table on standard error. The other flags go for both
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["source", "jsonl", "train_tokenizer"])]
    compare: Vec<String>,

    #[command(flatten)]
    against: Against,

    #[command(flatten)]
    select: Select,
}

/// Where texts come from and where what is found goes.
pub struct Place<'a> {
    pub input: &'a Input,
    pub dir: &'a Path,
    pub encoding: &'a Encoding,
    pub output: Option<&'a Path>,
    pub jsonl: bool,
}

impl Survey {
    /// Does what was asked for; nothing if nothing was.
    pub fn run(&self, place: &Place) -> Result<Option<String>> {
        self.against.check_limit()?;
        self.check_files(place)?;
        place.input.dedup.check(self.against.against.is_some())?;
        if let [a, b] = &self.compare[..] {
            let found = Comparison::of([a, b], place.input, place.dir, place.tokenizer()?)?;
            return place.tell(&found.to_json(), &found).map(Some);
        }
        if self.stats {
            place.check_text()?;
            let tokenizer = place.tokenizer()?;
            let found = read::with_data(place.input, place.dir, |data| Stats::of(data, tokenizer))?;
            return place.tell(&found.to_json(), &found).map(Some);
        }
        if let Some(other) = &self.against.against {
            return self.leaks(other, place).map(Some);
        }
        let Some(task) = &self.select.select_near else {
            place.check_rows()?;
            return Ok(None);
        };
        let windows = place.jsonl && place.encoding.length.stride.is_some();
        ensure!(!windows, usage("--jsonl writes whole rows, and --stride divides them"));
        if place.jsonl && place.input.source.iter().any(|source| source == "-") {
            let cure = "write it to a file first";
            bail!(usage("--jsonl reads DATA twice, and standard input is read once").hint(cure));
        }
        let found = self.select.find(task, place.input, place.dir, place.encoding)?;
        place.write(&found, &found.near, None, place.output)?;
        if let Some(control) = &self.select.control {
            place.write(&found, &found.control, Some(place.input.seed), Some(control))?;
        }
        if let Some(neighbours) = &self.select.neighbours {
            let mut out = cli::text_output(Some(neighbours))?;
            found.write_neighbours(&mut out)?;
            out.commit()?;
        }
        Ok(Some(found.summary()))
    }

    /// Fails where an output would take the place of another, or of something that is read.
    fn check_files(&self, place: &Place) -> Result<()> {
        let Input { source, catalog, .. } = place.input;
        let mut inputs = data::files_named(source, catalog.as_deref())?;
        let Select { select_near, vectors, control, neighbours, .. } = &self.select;
        let named = [&self.against.against, select_near, catalog, &place.encoding.tokenizer];
        inputs.extend(named.into_iter().flatten().cloned());
        let vectors = vectors.iter().flat_map(|files| files.split(','));
        inputs.extend(self.compare.iter().map(String::as_str).chain(vectors).map(PathBuf::from));
        let mut outputs = vec![("-o", place.output)];
        let besides = [("--control", control), ("--neighbours", neighbours)];
        let asked = besides.into_iter().filter(|(_, path)| path.is_some());
        outputs.extend(asked.map(|(flag, path)| (flag, path.as_deref())));
        cli::apart(&outputs, &inputs)
    }

    fn leaks(&self, other: &Path, place: &Place) -> Result<String> {
        let mut out = cli::text_output(place.output)?;
        let rows = |pairs| place.input.of_file(other, pairs).open(place.dir);
        let how = (place.input.dedup.similarity(), place.encoding);
        let report = |data| self.against.report(other, data, how, rows, &mut out);
        let found = read::with_data(place.input, place.dir, report);
        out.commit().and(found)
    }
}

impl Place<'_> {
    /// The tokenizer, if one was named.
    fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        self.encoding.tokenizer.as_ref().map(|_| self.encoding.open()).transpose()
    }

    fn check_text(&self) -> Result<()> {
        let Some((name, _)) = read::shards(self.input)? else { return Ok(()) };
        let cause = format!("{name}: is a token shard, and --stats reads texts");
        Err(fault(cause, "peek shows what is in a shard"))
    }

    /// Only those who select by tokens need both.
    fn check_rows(&self) -> Result<()> {
        let tokens = self.encoding.tokenizer.is_some() || self.encoding.length.max_length.is_some();
        let cure = "--tokenizer and --max-length are for shards";
        ensure!(!(self.jsonl && tokens), usage("--jsonl writes texts, not tokens").hint(cure));
        Ok(())
    }

    /// JSON for programs, a picture for people.
    fn tell(&self, json: &Value, picture: &impl Display) -> Result<String> {
        let mut out = cli::text_output(self.output)?;
        writeln!(out, "{json}")?;
        out.commit()?;
        Ok(picture.to_string().trim_end().to_owned())
    }

    fn write(
        &self,
        found: &Selected,
        places: &[usize],
        seed: Option<u64>,
        to: Option<&Path>,
    ) -> Result<()> {
        let mut out = if self.jsonl { cli::text_output(to)? } else { cli::output(to)? };
        match self.jsonl {
            true => found.corpus.write_rows(places, self.dir, &mut out)?,
            false => {
                let about = found.about(seed);
                found.corpus.write(places, &about, cli::command_line(), &mut out)?;
            }
        }
        out.commit()
    }
}
