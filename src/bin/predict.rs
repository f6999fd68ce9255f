use std::io::{self, Write};
use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use tapt::checkpoint::{Checkpoint, Head, Loaded, tokenizer};
use tapt::cli::{self, Talk};
use tapt::data::{Line, text_lines};
use tapt::flags::usage;
use tapt::model::SequenceClassifier;
use tapt::native::Compute;
use tapt::nn::{Everything, Ids};
use tapt::text::{Length, Tokenizer};
use tapt::train::{best, classify, ids, probabilities};
use tch::Device;

/// Lines that go through the model together.
const LINES: usize = 256;

/// Classify texts.
///
/// Reads a text a line, or JSON lines with "text" (and "pair"), on standard input; writes a JSON line for each, in
/// order.
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
    let device = args.compute.open()?;
    let (dir, rest) = cli::model_first(args.model, args.paths)?;
    if let Some(file) = rest.first() {
        let file = file.display();
        let cause = "texts are read on standard input";
        bail!(usage(cause).hint(format!("predict {} < {file}", dir.display())));
    }
    let checkpoint = Checkpoint::open(&dir, args.base.as_deref())?.merging(true);
    let mut tokenizer = tokenizer(&checkpoint)?;
    args.length.apply(&mut tokenizer)?;
    let named = || dir.display().to_string();
    let labels = checkpoint.labels().with_context(named)?;
    let model = checkpoint.classifier(labels.len(), &Everything, Head::Given, device);
    let model = model.with_context(named)?;
    let mut out = cli::text_output(None)?;
    let arriving = arriving();
    loop {
        let (some, end) = next_lines(&arriving);
        for probs in probabilities_of(&model, &tokenizer, &some, device)? {
            writeln!(out, "{}", answer(&probs, &labels, args.top))?;
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

fn probabilities_of(
    model: &Loaded<SequenceClassifier>,
    tokenizer: &Tokenizer,
    lines: &[Line],
    device: Device,
) -> Result<Vec<Vec<f32>>> {
    let texts: Vec<_> = lines.iter().map(|l| (l.text.as_str(), l.pair.as_deref())).collect();
    let (mut sequences, mut windows): (Vec<Ids>, _) = (Vec::new(), Vec::new());
    for pieces in tokenizer.pieces_batch(&texts)? {
        let start = sequences.len();
        sequences.extend(pieces.into_iter().map(ids));
        windows.push(start..sequences.len());
    }
    let lengths: Vec<usize> = sequences.iter().map(|ids| ids.tokens.len()).collect();
    let mut all = vec![Vec::new(); texts.len()];
    let item = |i: usize| sequences[i].clone();
    classify(&model.model, &item, &lengths, &windows, device, &mut |text, logs| {
        all[text] = probabilities(&logs);
    })?;
    Ok(all)
}

fn answer(probs: &[f32], labels: &[String], top: Option<usize>) -> Value {
    let scored = |i: usize| json!({"label": labels[i], "score": probs[i]});
    let mut answer = scored(best(probs));
    if let Some(top) = top {
        let mut order: Vec<usize> = (0..probs.len()).collect();
        order.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]));
        answer["top"] = order.into_iter().take(top).map(scored).collect();
    }
    answer
}
