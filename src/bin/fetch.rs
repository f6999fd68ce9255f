use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use plain::cli::{self, Talk};
use plain::flags::usage;
use plain::{data, hub};

/// Download a model or a data set of the hub, and print where it lies.
///
/// Every program does this by itself where it is given org/name[@revision]; this
/// one does it beforehand, as on a machine that has the network for one that has
/// not. What is in the cache, Python's too, is not downloaded again.
///
///   fetch distilbert/distilroberta-base
///   fetch distilbert/distilroberta-base -o models/base      a directory of links to the cache
///   fetch --tokenizer google-bert/bert-base-uncased
///   fetch --data ag_news --split train,test                 the files, one a line
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// org/name[@revision] of a model or an adapter; with --data, of a data set, or its name in the catalog
    name: PathBuf,

    /// A model's tokenizer and config alone
    #[arg(long, conflicts_with = "data")]
    tokenizer: bool,

    /// A data set
    #[arg(long)]
    data: bool,

    /// The splits to fetch
    #[arg(
        long,
        value_name = "SPLIT,…",
        value_delimiter = ',',
        default_value = "train",
        requires = "data"
    )]
    split: Vec<String>,

    /// A catalog of your own, read before the built-in one
    #[arg(long, value_name = "FILE", requires = "data")]
    catalog: Option<PathBuf>,

    /// Make DIR a directory of links to the model's files
    #[arg(short, long, value_name = "DIR", conflicts_with = "data")]
    output: Option<PathBuf>,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    let mut out = cli::text_output(None)?;
    for path in places(&args)? {
        writeln!(out, "{}", path.display())?;
    }
    out.commit()
}

fn places(args: &Args) -> Result<Vec<PathBuf>> {
    if args.data {
        let name = args.name.to_str().context("DATA: not UTF-8")?;
        return data::fetch(name, &args.split, args.catalog.as_deref());
    }
    let fetch = if args.tokenizer { hub::tokenizer } else { hub::model };
    let dir = fetch(&args.name)?;
    ensure!(dir.is_dir(), usage(format!("{}: neither a directory nor org/name", dir.display())));
    match &args.output {
        None => Ok(vec![dir]),
        Some(links) => link(&dir, links).map(|()| vec![links.clone()]),
    }
}

/// Links to the files of `dir`, the weights last, as whatever waits for them expects.
fn link(dir: &Path, links: &Path) -> Result<()> {
    let named = || links.display().to_string();
    fs::create_dir_all(links).with_context(named)?;
    let files = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut files: Vec<PathBuf> =
        files.with_context(named)?.iter().map(fs::DirEntry::path).collect();
    for folder in files.iter().filter(|file| file.is_dir() && is_module(file)) {
        link(folder, &links.join(folder.file_name().unwrap_or_default()))?;
    }
    files.retain(|file| file.is_file());
    files.sort_by_key(|file| file.extension().is_some_and(|ending| ending == "safetensors"));
    for file in files {
        let target = file.canonicalize().with_context(named)?;
        let link = links.join(file.file_name().unwrap_or_default());
        if link.canonicalize().ok().as_ref() != Some(&target) {
            ensure!(fs::symlink_metadata(&link).is_err(), "{}: is there already", link.display());
            symlink(&target, &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(())
}

/// Whether a folder is called as sentence-transformers calls those of its modules, `1_Pooling`.
fn is_module(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.split_once('_').is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}
