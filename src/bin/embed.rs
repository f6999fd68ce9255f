use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tapt::checkpoint::{Checkpoint, fits, tokenizer, write_vector_lines, write_vectors};
use tapt::cli::{self, Progress, Talk};
use tapt::data::{Line, name_of, text_lines};
use tapt::flags::usage;
use tapt::model::{Encoder, Layers, Pool};
use tapt::native::{Compute, Place};
use tapt::nn::Ids;
use tapt::shard::{Input, Shard, shard_or_text};
use tapt::train::{Item, ids, sweep, unlabelled};
use tch::{Device, Tensor};

/// Turn texts into vectors.
///
/// Reads a token shard, or a text a line, and writes the encoder's hidden
/// states, pooled: as safetensors with -o (`embeddings`, `rows`), else as a
/// JSON line for each text.
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

    /// Layer whose hidden states to take: last, all, or a number (0 = the embeddings)
    #[arg(long, default_value = "last")]
    layer: Layers,

    /// How the vectors of a text's tokens become one
    #[arg(long, value_enum, default_value_t = Pool::Mean)]
    pool: Pool,

    /// Scale every vector to length 1
    #[arg(long)]
    normalize: bool,

    #[command(flatten)]
    compute: Compute,

    #[command(flatten)]
    talk: Talk,
}

/// Sequences to embed, with their row numbers.
struct Texts {
    ids: Vec<Ids>,
    rows: Vec<u64>,
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
    let texts = open(input, &checkpoint)?;
    args.layer.check(checkpoint.architecture.sizes().layers)?;
    let encoder = checkpoint.encoder(place.device).with_context(|| model.display().to_string())?;
    let vectors = embed(&*encoder.model, &texts, &args, place)?;
    match &args.output {
        Some(path) => {
            let mut out = cli::output(Some(path))?;
            write_vectors(&mut out, &vectors, &texts.rows, args.pool != Pool::None)?;
            out.commit()
        }
        None => {
            let mut out = cli::text_output(None)?;
            write_vector_lines(&mut out, &vectors, &texts.rows)?;
            out.commit()
        }
    }
}

fn open(input: &Path, checkpoint: &Checkpoint) -> Result<Texts> {
    let named = || name_of(input);
    match shard_or_text(input).with_context(named)? {
        Input::Shard(segments) => {
            from_shard(&Shard::read([segments])?, checkpoint).with_context(named)
        }
        Input::Text(reader) => from_text(&named(), reader, checkpoint),
    }
}

fn from_shard(shard: &Shard, checkpoint: &Checkpoint) -> Result<Texts> {
    ensure!(!shard.is_masked(), "it is masked; vectors are made of the texts as they are");
    fits(shard, &checkpoint.dir, &checkpoint.sizes())?;
    let ids = (0..shard.len()).map(|i| unlabelled(&shard.view(i)).ids).collect();
    Ok(Texts { ids, rows: (0..shard.len()).map(|i| shard.view(i).row).collect() })
}

fn from_text(name: &str, reader: impl BufRead, checkpoint: &Checkpoint) -> Result<Texts> {
    let lines: Vec<Line> = text_lines(name, reader).collect::<Result<_>>()?;
    let tokenizer = tokenizer(checkpoint)?;
    let texts: Vec<_> = lines.iter().map(|l| (l.text.as_str(), l.pair.as_deref())).collect();
    let ids: Vec<Ids> = tokenizer.encode_batch(&texts)?.into_iter().map(ids).collect();
    Ok(Texts { rows: (0..ids.len() as u64).collect(), ids })
}

/// One tensor a text: `[hidden]`, `[layers + 1, hidden]`, or with the tokens in front where nothing is pooled.
fn embed(encoder: &dyn Encoder, texts: &Texts, args: &Args, place: Place) -> Result<Vec<Tensor>> {
    let lengths: Vec<usize> = texts.ids.iter().map(|ids| ids.tokens.len()).collect();
    let item = |i: usize| Item { ids: texts.ids[i].clone(), ..Item::default() };
    let mut all: Vec<Tensor> = lengths.iter().map(|_| Tensor::new()).collect();
    let (mut bar, mut done) = (Progress::new("embed", lengths.len() as u64), 0);
    sweep(&item, &lengths, place, &mut |group, micro| {
        let states = args.layer.take(encoder, &micro.batch);
        for (&i, vector) in group.iter().zip(args.pool.pool(&states, &micro.batch)) {
            let vector = if args.normalize { unit(&vector) } else { vector };
            all[i] = vector.to_device(Device::Cpu);
        }
        done += group.len() as u64;
        bar.set(done, String::new);
        Ok(())
    })?;
    bar.finish();
    Ok(all)
}

fn unit(vectors: &Tensor) -> Tensor {
    vectors / vectors.square().sum_dim_intlist(-1i64, true, None).sqrt().clamp_min(1e-12)
}
