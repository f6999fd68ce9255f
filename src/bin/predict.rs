use std::io::{self, Write};
use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::Value;
use tapt::checkpoint::Checkpoint;
use tapt::cli::{self, Talk};
use tapt::data::{Line, text_lines};
use tapt::flags::usage;
use tapt::native::Compute;
use tapt::text::Length;
use tapt::train::Answerer;

/// Lines that go through the model together.
const LINES: usize = 256;

/// Classify texts, or predict numbers.
///
/// Reads a text a line, or JSON lines with "text" (and "pair"), on standard input; writes a JSON line for each, in
/// order: the class and its probability, of a model of several labels those of
/// probability 0.5 and above, or the number.
///
///   echo "Oil and economy cloud stocks' outlook" | predict runs/full
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// The model: a Hugging Face directory, an adapter, or org/name[@revision] on the hub
    #[arg(value_name = "MODEL")]
    paths: Vec<PathBuf>,

    /// The model, as a flag
    #[arg(long)]
    model: Option<PathBuf>,

    /// The base of an adapter, where it lies elsewhere than when it was trained
    #[arg(long)]
    base: Option<PathBuf>,

    /// An adapter to put on the model, which is its base then; several answer in turn
    #[arg(long, value_name = "DIR", conflicts_with = "base")]
    adapter: Vec<PathBuf>,

    #[command(flatten)]
    length: Length,

    /// Also give the K most probable classes
    #[arg(long, value_name = "K")]
    top: Option<usize>,

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
    let (dir, rest) = cli::model_first(args.model, args.paths)?;
    if let Some(file) = rest.first() {
        let file = file.display();
        let cause = "texts are read on standard input";
        bail!(usage(cause).hint(format!("predict {} < {file}", dir.display())));
    }
    let base = Checkpoint::open(&dir, args.base.as_deref())?;
    let mut models: Vec<Answerer> = match &args.adapter[..] {
        [] => vec![Answerer::open(&base, (&dir, None), place.device)?],
        all => {
            let each = all
                .iter()
                .map(|adapter| Answerer::open(&base, (&dir, Some(adapter)), place.device));
            each.collect::<Result<_>>()?
        }
    };
    for model in &mut models {
        args.length.apply(&mut model.tokenizer)?;
        model.check(args.top)?;
    }
    let mut out = cli::text_output(None)?;
    let arriving = arriving();
    loop {
        let (some, end) = next_lines(&arriving);
        let texts: Vec<_> = some.iter().map(|l| (l.text.as_str(), l.pair.as_deref())).collect();
        let answers = models.iter().map(|model| model.answers(&texts, args.top, place));
        let answers: Vec<Vec<Value>> = answers.collect::<Result<_>>()?;
        for text in 0..texts.len() {
            for answers in &answers {
                writeln!(out, "{}", answers[text])?;
            }
        }
        out.flush()?;
        if let Some(end) = end {
            return end.and_then(|()| out.commit());
        }
    }
}

/// The lines of standard input, read ahead on a thread of their own.
fn arriving() -> Receiver<Result<Line>> {
    let (send, arriving) = mpsc::sync_channel(LINES);
    thread::spawn(move || {
        text_lines("standard input", io::stdin().lock()).try_for_each(|line| send.send(line))
    });
    arriving
}

/// The lines that are there, at least one, and how the input ended if it did: who writes a line gets its answer
/// without writing more, and a bad line does not take the good ones before it along.
fn next_lines(arriving: &Receiver<Result<Line>>) -> (Vec<Line>, Option<Result<()>>) {
    let Ok(first) = arriving.recv() else { return (Vec::new(), Some(Ok(()))) };
    let mut lines = Vec::new();
    for line in iter::once(first).chain(arriving.try_iter()).take(LINES) {
        match line {
            Ok(line) => lines.push(line),
            Err(error) => return (lines, Some(Err(error))),
        }
    }
    (lines, None)
}
