use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use plain::cli::{self, Talk};
use plain::flags::usage;
use plain::shard::{MaskedBy, Masker, Masking, Segment, agree, segments, write_masked};

/// Choose tokens to predict, and hide them.
///
/// Reads token shards and writes them masked, once per epoch, each epoch masked
/// anew. What is masked depends on --seed, the epoch, the draw and the number of
/// the sequence alone: the same call gives the same bytes, on any machine.
///
///   prep sample --tokenizer runs/base | mask --prob 0.15 > shard.bin
///   mask --epochs 20 --seed 1 train.tok | pretrain --model runs/base -o runs/tapt
///   mask --exact --draws 5 dev.tok > dev.bin; evaluate runs/tapt dev.bin
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// Token shards; `-` is standard input
    #[arg(default_value = "-")]
    shards: Vec<PathBuf>,

    #[command(flatten)]
    masking: Masking,

    /// Passes over the shards, each masked anew; 0 goes on for ever, on standard output only
    #[arg(long, default_value_t = 1)]
    epochs: u64,

    /// Draws of each sequence in an epoch, for masks to evaluate on
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = plain::flags::count)]
    draws: u64,

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
    check_output(&args)?;
    let mut out = cli::output(Some(&args.output))?;
    let kept = first_epoch(&args, &mut out)?;
    let mut epoch = 1;
    while args.epochs == 0 || epoch < args.epochs {
        write_epoch(&args, epoch, kept.iter(), &mut out)?;
        epoch += 1;
    }
    out.commit()
}

/// Fails where the output would take the place of a shard, or grow until the disk is full.
fn check_output(args: &Args) -> Result<()> {
    cli::apart(&[("-o", Some(&args.output))], &args.shards)?;
    let is_file = args.output.metadata().map_or(args.output != Path::new("-"), |to| to.is_file());
    let cause = || {
        usage(format!(
            "--epochs 0 goes on for ever, until {} fills the disk",
            args.output.display()
        ))
    };
    ensure!(args.epochs > 0 || !is_file, cause().hint("leave -o out, and pipe it on (| pretrain)"));
    Ok(())
}

/// Masks segments as they arrive; keeps them only where another epoch will want them.
fn first_epoch(args: &Args, out: &mut impl Write) -> Result<Vec<Segment>> {
    let again = args.epochs != 1;
    let (mut kept, mut count): (Vec<Segment>, u64) = (Vec::new(), 0);
    for path in &args.shards {
        let mut part = segments(path)?;
        while let Some(segment) = part.next().transpose()? {
            let named = || part.name().to_owned();
            ensure!(segment.masked_by().is_none(), "{}: it is masked already", part.name());
            agree(kept.first().unwrap_or(&segment), &segment).with_context(named)?;
            for draw in 0..args.draws {
                let masker = masker(args, (0, draw), &segment).with_context(named)?;
                write_masked(out, &segment, &masker, count)?;
            }
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
        for draw in 0..args.draws {
            write_masked(out, segment, &masker(args, (epoch, draw), segment)?, count)?;
        }
        count += segment.len() as u64;
    }
    Ok(())
}

fn masker(args: &Args, (epoch, draw): (u64, u64), segment: &Segment) -> Result<Masker> {
    let Args { seed, epochs, draws, .. } = *args;
    let by = MaskedBy { masking: args.masking.clone(), seed, epoch, epochs, draw, draws };
    Masker::new(&by, segment.header())
}
