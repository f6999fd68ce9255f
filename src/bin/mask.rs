use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use plain::cli::{self, Talk};
use plain::shard::{MaskedBy, Masking, Segment, agree, segments, write_masked};

/// Choose tokens to predict, and hide them.
///
/// Reads token shards and writes them masked, once per epoch, each epoch masked anew. What is masked depends on
/// --seed, the epoch and the number of the sequence alone: the same call gives the same bytes, on any machine.
///
///   prep ag_news --tokenizer roberta | mask --prob 0.15 > shard.bin
///   mask --epochs 20 --seed 1 train.tok | pretrain --model roberta -o enc/tapt
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// Token shards; `-` is standard input
    #[arg(default_value = "-")]
    shards: Vec<PathBuf>,

    #[command(flatten)]
    masking: Masking,

    /// Passes over the shards, each masked anew; 0 goes on for ever
    #[arg(long, default_value_t = 1)]
    epochs: u64,

    /// Seed of the masks
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Where to write the masked shard
    #[arg(short, long, default_value = "-")]
    output: PathBuf,

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
    let mut out = cli::output(Some(&args.output))?;
    let kept = first_epoch(&args, &mut out)?;
    let mut epoch = 1;
    while args.epochs == 0 || epoch < args.epochs {
        write_epoch(&args, epoch, kept.iter(), &mut out)?;
        epoch += 1;
    }
    out.commit()
}

/// Masks segments as they arrive; keeps them only where another epoch will want them.
fn first_epoch(args: &Args, out: &mut impl Write) -> Result<Vec<Segment>> {
    let again = args.epochs != 1;
    let (mut kept, mut count): (Vec<Segment>, u64) = (Vec::new(), 0);
    for path in &args.shards {
        for segment in segments(path)? {
            let segment = segment?;
            let named = || path.display().to_string();
            if segment.masked_by().is_some() {
                return Err(anyhow!("it is masked already").context(named()));
            }
            agree(kept.first().unwrap_or(&segment), &segment).with_context(named)?;
            write_masked(out, &segment, &masked_by(args, 0), count).with_context(named)?;
            count += segment.len() as u64;
            match kept.first() {
                Some(_) if !again => {}
                _ => kept.push(segment),
            }
        }
    }
    Ok(kept)
}

fn write_epoch<'a>(
    args: &Args,
    epoch: u64,
    segments: impl Iterator<Item = &'a Segment>,
    out: &mut impl Write,
) -> Result<()> {
    let mut count = 0;
    for segment in segments {
        write_masked(out, segment, &masked_by(args, epoch), count)?;
        count += segment.len() as u64;
    }
    Ok(())
}

fn masked_by(args: &Args, epoch: u64) -> MaskedBy {
    MaskedBy { masking: args.masking.clone(), seed: args.seed, epoch, epochs: args.epochs }
}
