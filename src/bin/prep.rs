use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use plain::cli::{self, Talk};
use plain::data::{self, Dataset, Input};
use plain::encode::encode;
use plain::survey::{Place, Survey};
use plain::text::{self, Encoding, Extension, Kind, Tokenizer};

/// Turn texts into token shards.
///
/// Reads a data set of the catalog, files, a directory or standard input (CSV,
/// TSV, JSON lines, Parquet, or text; plain, gz or zst), chooses a split, and
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
    #[arg(long, conflicts_with_all = ["train_tokenizer", "Packing", "extend"])]
    jsonl: bool,

    /// Train a tokenizer of N tokens on the texts, into the directory -o, instead of writing a shard
    #[arg(long, value_name = "N", requires = "output", conflicts_with_all = ["tokenizer", "Length", "Packing", "extend"])]
    train_tokenizer: Option<usize>,

    /// What kind of tokenizer to train
    #[arg(long, default_value = "bpe", requires = "train_tokenizer")]
    kind: Kind,

    #[command(flatten)]
    extension: Extension,

    #[command(flatten)]
    survey: Survey,

    /// Print the catalog
    #[arg(long)]
    list: bool,

    /// Where to write: a file, with --train-tokenizer and --extend a directory [default: standard output]
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
    if let Some(found) = survey(&args, &dir)? {
        cli::note(found);
        return Ok(());
    }
    let other = args.jsonl || args.train_tokenizer.is_some() || args.extension.extend.is_some();
    let encoding = (!other).then(|| args.encoding.fetched()).transpose()?;
    let opened = AtomicBool::new(false);
    let open = || {
        let tokenizer = encoding.map(|encoding| encoding.open()).transpose();
        opened.store(true, Ordering::Relaxed);
        tokenizer
    };
    let data = || args.input.open(&dir).map(|data| data.read_ahead(&opened));
    let (tokenizer, data) = rayon::join(open, data);
    let (tokenizer, data) = (tokenizer?, data?);
    let (skipped, dropped) = (data.skipped.clone(), data.dropped.clone());
    let done = match (tokenizer, args.train_tokenizer, &args.output) {
        // The process ends sooner than a vocabulary is freed word by word.
        (Some(tokenizer), ..) => {
            write_shard(args.output.as_deref(), Box::leak(Box::new(tokenizer)), data)?
        }
        (None, Some(size), Some(dir)) => {
            let tokens = text::train(args.kind, size, data.texts(), dir)?;
            let few = format!(": {tokens} of {size} tokens, the texts give no more");
            format!("tokenizer in {}{}", dir.display(), if tokens < size { &few } else { "" })
        }
        (.., Some(dir)) if args.extension.extend.is_some() => {
            args.extension.run(data.texts(), dir)?
        }
        _ => write_rows(args.output.as_deref(), data)?,
    };
    skipped.some().iter().for_each(cli::warn);
    dropped.iter().for_each(cli::note);
    cli::note(format_args!("{done}, {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn survey(args: &Args, dir: &Path) -> Result<Option<String>> {
    let Args { input, encoding, jsonl, .. } = args;
    let place = Place { input, dir, encoding, output: args.output.as_deref(), jsonl: *jsonl };
    args.survey.run(&place)
}

fn list(args: &Args) -> Result<()> {
    let mut out = cli::text_output(args.output.as_deref())?;
    out.write_all(data::listing(args.input.catalog.as_deref())?.as_bytes())?;
    out.commit()
}

fn write_rows(output: Option<&Path>, data: Dataset) -> Result<String> {
    let mut out = cli::text_output(output)?;
    let rows = data.write_rows(&mut out)?;
    out.commit()?;
    Ok(format!("{rows} rows"))
}

fn write_shard(output: Option<&Path>, tokenizer: &Tokenizer, data: Dataset) -> Result<String> {
    let (out, count) = encode(data, tokenizer, cli::command_line(), cli::output(output)?)?;
    out.commit()?;
    Ok(count.to_string())
}
