use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use plain::cli::{self, Live, Talk};
use plain::flags::{duration, fault};
use plain::report::{
    Arm, CURE, Follow, arms, check_baseline, csv, markdown, page, scores_below, text,
};

/// Between two looks at the logs.
const LOOK: Duration = Duration::from_millis(500);

/// Many runs side by side: mean and standard deviation over seeds.
///
/// Reads scores named TASK/ENCODER/METHOD/SEED/score.json, and the log beside
/// each. Percent throughout; seconds are training time, of the adapted encoder
/// once and of every seed. Arms with a run that tells nothing apart are marked,
/// and so are differences from the baseline that are inside the noise. With
/// --follow it reads logs alone, and shows the runs that go on.
///
///   report runs
///   report runs --html page.html --baseline base/lora
///   report --follow runs
#[derive(Parser)]
#[command(version, args_override_self = true, verbatim_doc_comment)]
struct Args {
    /// Score files, or directories to look for them in
    #[arg(default_value = "runs")]
    paths: Vec<PathBuf>,

    /// Also write a page of tables and pictures, one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Also write the table as Markdown, without the seconds: the same runs give the same file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Also write a line for each arm and score, shares as shares
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// What arms are held against, where a task has it; else base/full, else its first arm
    #[arg(long, value_name = "ENCODER/METHOD")]
    baseline: Option<String>,

    /// The title of the page, and a line above the Markdown table
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// Watch runs below the directories as they train, no scores wanted: a line for each, until Ctrl-C, or all have ended
    /// and none has begun for so long [default: 1m]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1m")]
    #[arg(value_parser = duration, conflicts_with_all = ["html", "markdown", "csv", "baseline", "title"])]
    follow: Option<Duration>,

    #[command(flatten)]
    talk: Talk,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.talk.apply();
    if let Some(wait) = args.follow {
        return follow(&args.paths, wait);
    }
    let outputs = [("--html", &args.html), ("--markdown", &args.markdown), ("--csv", &args.csv)];
    let named = outputs.map(|(flag, path)| Some((flag, Some(path.as_deref()?))));
    cli::apart(&named.into_iter().flatten().collect::<Vec<_>>(), &args.paths)?;
    let lists: Vec<Vec<PathBuf>> =
        args.paths.iter().map(|path| scores_below(path)).collect::<Result<_>>()?;
    let scores = lists.concat();
    let paths: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
    let cause = || fault(format!("no score.json in {}", paths.join(", ")), CURE);
    ensure!(!scores.is_empty(), cause());
    let arms = arms(&scores)?;
    check_baseline(&arms, args.baseline.as_deref())?;
    write_files(&args, &arms)?;
    let mut out = cli::text_output(None)?;
    write!(out, "{}", text(&arms, args.baseline.as_deref()))?;
    out.commit()
}

/// Shows runs until a stop is asked for, or none has gone on for `wait`.
fn follow(paths: &[PathBuf], wait: Duration) -> Result<()> {
    cli::on_stop()?;
    let (mut follow, mut live) = (Follow::new(paths)?, Live::stdout());
    let (mut last, mut seen) = (Instant::now(), false);
    loop {
        let lines = follow.look();
        seen |= !lines.is_empty();
        for line in &lines {
            match line.goes_on {
                true => live.set(&line.name, &line.parts, line.is_news)?,
                false => live.end(&line.name, &line.parts)?,
            }
        }
        live.draw();
        if lines.iter().any(|line| line.goes_on) {
            last = Instant::now();
        } else if last.elapsed() >= wait {
            break;
        }
        if cli::stop_requested() {
            break;
        }
        cli::pause(LOOK);
    }
    live.finish();
    if !seen {
        let killed = match follow.killed() {
            0 => String::new(),
            killed => format!("; {killed} said nothing for long: killed, it seems"),
        };
        cli::note(format_args!("no run goes on{killed}"));
    }
    Ok(())
}

fn write_files(args: &Args, arms: &[Arm]) -> Result<()> {
    let (base, title) = (args.baseline.as_deref(), args.title.as_deref());
    if let Some(path) = &args.html {
        write_to(path, &page(arms, title.unwrap_or("Runs"), base)?)?;
    }
    if let Some(path) = &args.csv {
        write_to(path, &csv(arms, base)?)?;
    }
    if let Some(path) = &args.markdown {
        let above = title.map_or_else(String::new, |title| format!("{title}\n\n"));
        write_to(path, &(above + &markdown(arms, base)))?;
    }
    Ok(())
}

fn write_to(path: &Path, text: &str) -> Result<()> {
    let mut out = cli::text_output(Some(path))?;
    out.write_all(text.as_bytes())?;
    out.commit()
}
