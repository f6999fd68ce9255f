use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use plain::cli::{self, Talk};
use plain::data::{self, Dataset, Example, Examples, Input};
use plain::shard::Writer;
use plain::text::{self, Count, Encoding, Kind, Tokenizer};

/// Texts encoded at a time; the next ones are read meanwhile.
const BATCH: usize = 4096;

/// Turn texts into token shards.
///
/// Reads a data set of the catalog, a file, a directory or standard input (CSV,
/// TSV, JSON lines, or a document a line; gzipped or not), chooses a split, and
/// writes a token shard. Rows keep the order of the source; which rows a split
/// has depends on --seed and the other flags alone.
///
///   prep sample --split domain --train-tokenizer 2000 -o tok
///   prep sample --split test --tokenizer tok -o test.tok
///   prep reviews.csv --text title,body --label stars --tokenizer tok -o a.tok
///   prep ag_news --data DIR --carve 0.1 --split validation --jsonl | head
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    encoding: Encoding,

    /// Write the rows as JSON lines, {"text","pair","label","row"}, instead of a shard
    #[arg(long, conflicts_with_all = ["tokenizer", "train_tokenizer", "max_length"])]
    jsonl: bool,

    /// Train a tokenizer of N tokens on the texts, into the directory -o, instead of writing a shard
    #[arg(long, value_name = "N", requires = "output", conflicts_with_all = ["tokenizer", "max_length"])]
    train_tokenizer: Option<usize>,

    /// What kind of tokenizer to train
    #[arg(long, default_value = "bpe", requires = "train_tokenizer")]
    kind: Kind,

    /// Print the catalog
    #[arg(long)]
    list: bool,

    /// Where to write: a file, with --train-tokenizer a directory [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = plain::flags::threads)]
    threads: Option<usize>,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    cli::threads(args.threads)?;
    if args.list {
        return list(&args);
    }
    let start = Instant::now();
    let dir = args.input.dir.clone().or_else(cli::env_data).unwrap_or("data".into());
    let tokenizer = if args.jsonl || args.train_tokenizer.is_some() {
        None
    } else {
        Some(args.encoding.open()?)
    };
    let data = args.input.open(&dir)?;
    data.notes.iter().for_each(cli::note);
    let done = match (tokenizer, args.train_tokenizer, &args.output) {
        (Some(tokenizer), ..) => write_shard(&args, &tokenizer, data)?,
        (None, Some(size), Some(dir)) => {
            text::train(args.kind, size, data.texts(), dir)?;
            format!("tokenizer in {}", dir.display())
        }
        _ => write_rows(args.output.as_deref(), data)?,
    };
    cli::note(format_args!("{done}, {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn list(args: &Args) -> Result<()> {
    let mut out = cli::text_output(args.output.as_deref())?;
    out.write_all(data::table(args.input.catalog.as_deref())?.as_bytes())?;
    out.commit()
}

fn write_rows(output: Option<&Path>, data: Dataset) -> Result<String> {
    let mut out = cli::text_output(output)?;
    let rows = data.write_rows(&mut out)?;
    out.commit()?;
    Ok(format!("{rows} rows"))
}

fn write_shard(args: &Args, tokenizer: &Tokenizer, data: Dataset) -> Result<String> {
    let out = cli::output(args.output.as_deref())?;
    let mut writer = Writer::new(out, tokenizer.header(data.source, cli::command_line()));
    if !data.labels.is_empty() {
        writer = writer.labels(data.labels);
    }
    let (mut examples, mut count) = (data.examples, Count::default());
    let mut batch = read(&mut examples)?;
    while !batch.is_empty() {
        let texts: Vec<_> = batch.iter().map(|e| (e.text.as_str(), e.pair.as_deref())).collect();
        let (next, encoded) =
            rayon::join(|| read(&mut examples), || tokenizer.encode_batch(&texts));
        for (example, encoded) in batch.into_iter().zip(encoded?) {
            count.add(&encoded, example.text.is_empty());
            writer.push(encoded.into_sequence(example.label, example.row))?;
        }
        batch = next?;
    }
    writer.finish()?.commit()?;
    Ok(count.to_string())
}

fn read(examples: &mut Examples) -> Result<Vec<Example>> {
    examples.take(BATCH).collect()
}
