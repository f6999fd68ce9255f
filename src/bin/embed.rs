use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tapt::checkpoint::{Checkpoint, Sentence, tokenizer};
use tapt::cli::{self, Progress, Talk};
use tapt::data::{is_whole, name_of};
use tapt::flags::usage;
use tapt::model::FormArgs;
use tapt::native::Compute;
use tapt::shard::{Input, shard_or_text};
use tapt::text::Length;
use tapt::vectors::{Limits, Sink, Source, Windows, make};

/// Turn texts into vectors.
///
/// Reads a token shard, or a text a line, and writes the encoder's hidden
/// states, pooled: as safetensors with -o (`embeddings`, `rows`), else as a
/// JSON line for each text, as soon as it is there.
///
/// Where sentence-transformers' modules.json lies beside the model, --pool,
/// --normalize and --max-length are what it says, unless they are given.
///
///   embed enc/tapt test.tok --pool mean --layer all -o vectors.safetensors
///   echo "Oil and economy" | embed enc/tapt --normalize
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The model (unless --model names it), then a token shard or a file of texts; `-` is texts on standard input
    #[arg(value_name = "MODEL INPUT")]
    paths: Vec<PathBuf>,

    /// The model: a Hugging Face directory, an adapter, or org/name[@revision] on the hub
    #[arg(long)]
    model: Option<PathBuf>,

    /// The base of an adapter, where it lies elsewhere than when it was trained
    #[arg(long)]
    base: Option<PathBuf>,

    /// Where to write the vectors as safetensors
    #[arg(short, long)]
    output: Option<PathBuf>,

    #[command(flatten)]
    form: FormArgs,

    #[command(flatten)]
    length: Length,

    #[command(flatten)]
    compute: Compute,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    cli::threads(args.compute.threads)?;
    let place = args.compute.open()?;
    let (model, inputs) = cli::model_first(args.model.clone(), args.paths.clone())?;
    let one = inputs.len() < 2;
    ensure!(one, usage("one input is wanted; shards join with cat"));
    let input = inputs.first().map_or(Path::new("-"), PathBuf::as_path);
    let checkpoint = Checkpoint::open(&model, args.base.as_deref())?.merging(true);
    let sentence = Sentence::of(&checkpoint, args.form.pool.is_some())?;
    let form = args.form.form(sentence.pool, sentence.normalize);
    let source = open(input, &args, sentence, &checkpoint)?;
    let shape = form.shape(&checkpoint.architecture.sizes())?;
    let (each, pooled) = (shape.iter().product(), form.is_pooled());
    let mut bar = match source.count() {
        Some(count) => Progress::new("embed", count as u64),
        None => Progress::endless("embed"),
    };
    let windows = Windows::new(source, Limits::new(each, pooled));
    let encoder = checkpoint.encoder(place.device).with_context(|| model.display().to_string())?;
    let mut sink = Sink::open(args.output.as_deref(), shape, pooled)?;
    let mut done = 0;
    for window in windows {
        let vectors = make(&*encoder.model, window?, (&form, each), place, &mut |more| {
            done += more as u64;
            bar.set(done, String::new);
        })?;
        sink.write(&vectors)?;
    }
    bar.finish();
    sink.finish()
}

fn open(input: &Path, args: &Args, sentence: Sentence, checkpoint: &Checkpoint) -> Result<Source> {
    let (named, length) = (|| name_of(input), &args.length);
    let tell = |length| sentence.taken(&args.form, length).iter().for_each(cli::note);
    match shard_or_text(input).with_context(named)? {
        Input::Shard(segments) => {
            let cuts = length.max_length.is_some() || length.stride.is_some();
            let cure = "the sequences of a shard were cut when prep wrote it: prep --max-length N";
            ensure!(!cuts, usage("--max-length and --stride are for texts").hint(cure));
            tell(None);
            Source::shard(named(), segments, checkpoint)
        }
        Input::Text(reader) => {
            tell(Some(length));
            let (mut tokenizer, own) = (tokenizer(checkpoint)?, sentence.max_length);
            if let Some(own) = own.filter(|_| length.max_length.is_none()) {
                let file = sentence.file.as_deref().unwrap_or(input);
                tokenizer.truncate(own).with_context(|| file.display().to_string())?;
            }
            length.apply(&mut tokenizer)?;
            // Nobody waits for a line of what is there whole, nor for a file; fuller windows are quicker.
            let patient = args.output.is_some() || is_whole(input);
            Ok(Source::lines((&named(), reader), (tokenizer, sentence), patient))
        }
    }
}
