use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use plain::cli::{self, Talk};
use plain::report::{arms, markdown, scores_below, text};

/// One table of many runs: mean and standard deviation over seeds.
///
/// Reads scores named TASK/ENCODER/METHOD/SEED/score.json, and the log beside
/// each. Percent throughout; seconds are training time, of the adapted encoder
/// once and of every seed. Arms with a run that tells nothing apart are marked.
///
///   report runs
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// Score files, or directories to look for them in
    #[arg(default_value = "runs")]
    paths: Vec<PathBuf>,

    /// Also write the table as Markdown, without the seconds: the same runs give the same file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// A line above the Markdown table
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    let lists: Vec<Vec<PathBuf>> =
        args.paths.iter().map(|path| scores_below(path)).collect::<Result<_>>()?;
    let scores = lists.concat();
    ensure!(!scores.is_empty(), "no score.json in {}", args.paths[0].display());
    let arms = arms(&scores)?;
    if let Some(path) = &args.markdown {
        let mut out = cli::output(Some(path))?;
        if let Some(title) = &args.title {
            writeln!(out, "{title}\n")?;
        }
        write!(out, "{}", markdown(&arms))?;
        out.commit()?;
    }
    let mut out = cli::text_output(None)?;
    write!(out, "{}", text(&arms))?;
    out.commit()
}
