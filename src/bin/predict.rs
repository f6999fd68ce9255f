use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use tapt::checkpoint::Checkpoint;
use tapt::cli::{self, Talk};
use tapt::data::{Ahead, Arriving};
use tapt::flags::usage;
use tapt::native::Compute;
use tapt::text::{Encoded, Length, Tokenizer};
use tapt::train::{AnswerArgs, Answerer};

/// Lines that go through the model together.
const LINES: usize = 256;

/// Classify texts, or predict numbers.
///
/// Reads a text a line, or JSON lines with "text" (and "pair"), on standard
/// input; writes a JSON line for each, in order: the class and its probability,
/// of a model of several labels those of probability 0.5 and above, or the
/// number. Who writes a line gets its answer at once.
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

    #[command(flatten)]
    answer: AnswerArgs,

    /// Leave out lines that cannot be read, each a JSON object on standard error; answers then say their line
    #[arg(long)]
    skip_bad: bool,

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
    let adapters: Vec<Option<&PathBuf>> = match &args.adapter[..] {
        [] => vec![None],
        all => all.iter().map(Some).collect(),
    };
    let opened = adapters.iter().map(|adapter| {
        let (model, mut tokenizer) = Answerer::open(&base, (&dir, *adapter), place.device)?;
        args.length.apply(&mut tokenizer)?;
        model.check(&args.answer)?;
        Ok((model, tokenizer))
    });
    let (models, tokenizers): (Vec<_>, Vec<_>) =
        opened.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let mut out = cli::text_output(None)?;
    for Batch { lines, texts, end } in ahead(tokenizers, args.skip_bad) {
        let answers = models.iter().zip(texts?);
        let answers = answers.map(|(model, texts)| model.answers(texts, &args.answer, place));
        let mut answers: Vec<Vec<Value>> = answers.collect::<Result<_>>()?;
        for (text, line) in lines.into_iter().enumerate() {
            for answers in &mut answers {
                // Where lines may be left out, places tell nothing.
                if args.skip_bad {
                    answers[text]["line"] = json!(line);
                }
                writeln!(out, "{}", answers[text])?;
            }
        }
        out.flush()?;
        end.unwrap_or(Ok(()))?;
    }
    out.commit()
}

/// Texts that go through the models together.
struct Batch {
    /// Their numbers in the input, from 1.
    lines: Vec<u64>,
    /// Their windows, as each model has them.
    texts: Result<Vec<Vec<Vec<Encoded>>>>,
    /// How the input ended, if it did.
    end: Option<Result<()>>,
}

/// The texts on standard input, those that are there at a time; the next ones are encoded while the models run.
fn ahead(tokenizers: Vec<Tokenizer>, skip_bad: bool) -> Ahead<Batch> {
    let (name, input) = ("standard input", BufReader::new(io::stdin()));
    let tell = |line, error| cli::object(&json!({"line": line, "error": error}));
    let mut lines = match skip_bad {
        true => Arriving::skipping(name, input, tell),
        false => Arriving::new(name, input),
    };
    Ahead::new(0, move |send| {
        loop {
            let (some, end) = lines.some(LINES);
            let texts: Vec<_> = some.iter().map(|l| (l.text.as_str(), l.pair.as_deref())).collect();
            let texts = tokenizers.iter().map(|own| own.pieces_batch(&texts)).collect();
            let (is_last, lines) = (end.is_some(), some.iter().map(|line| line.number).collect());
            if send.send(Batch { lines, texts, end }).is_err() || is_last {
                break;
            }
        }
    })
}
