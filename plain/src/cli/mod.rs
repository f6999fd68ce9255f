//! The process: arguments and recipes, streams, exit codes, signals, progress.
//! The only room that prints, exits or reads the environment.
#![allow(clippy::print_stderr, clippy::disallowed_methods)]

mod args;
mod output;
mod progress;
mod signal;
mod talk;

use std::fmt;
use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Result;
use clap::Parser;

pub use args::{command_line, model_first};
pub use output::{Output, output, text_output};
pub use progress::Progress;
pub use signal::{on_stop, stop_requested};
pub use talk::{Talk, is_quiet, is_verbose};

use crate::flags::Usage;

/// What to do about an error, as a second line: `err.context(Hint("…".into()))`.
#[derive(Debug)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The work stopped on a signal, its state is saved, the same command goes on: exit status 75.
#[derive(Debug, thiserror::Error)]
#[error("stopped; run the same command again to go on")]
pub struct Stopped;

static PROGRAM: OnceLock<String> = OnceLock::new();

/// One line on standard error, unless `-q` was given.
pub fn note(message: impl fmt::Display) {
    if !is_quiet() {
        eprintln!("{}: {message}", program());
    }
}

/// One line on standard error that `-q` does not silence: something the numbers depend on.
pub fn warn(message: impl fmt::Display) {
    eprintln!("{}: {message}", program());
}

fn program() -> &'static str {
    PROGRAM.get().map_or("tapt", String::as_str)
}

/// Sets the number of threads of the data half; without a number, all cores.
pub fn threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    Ok(())
}

/// The folder named by `TAPT_DATA`.
pub fn env_data() -> Option<PathBuf> {
    std::env::var_os("TAPT_DATA").map(PathBuf::from)
}

/// Expands recipes, parses, runs, and turns errors into messages and exit codes.
pub fn main<A: Parser>(run: fn(A) -> Result<()>) -> ExitCode {
    let _ = PROGRAM.set(args::program_name());
    panic::set_hook(Box::new(|about| {
        eprintln!("{}: {}", program(), first_line(&about.to_string()))
    }));
    let args = match args::expand() {
        Ok(args) => args,
        Err(error) => return report(&error, 2),
    };
    let args = match A::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match panic::catch_unwind(AssertUnwindSafe(|| run(args))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.is::<Stopped>() => report(&error, 75),
        Ok(Err(error)) if error.is::<Usage>() => report(&error, 2),
        Ok(Err(error)) => report(&error, 1),
        Err(_) => ExitCode::from(1),
    }
}

/// A closed pipe is how `| head` says it has enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.any(|io| io.kind() == ErrorKind::BrokenPipe)
}

fn report(error: &anyhow::Error, code: u8) -> ExitCode {
    let hint = error.downcast_ref::<Hint>().map(|hint| hint.0.clone());
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.retain(|cause| Some(cause) != hint.as_ref());
    eprintln!("{}: {}", program(), causes.join(": "));
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(code)
}

/// What a panic says, without the place in our source and without LibTorch's own stack trace.
fn first_line(panic: &str) -> String {
    let message = panic.split_once('\n').map_or(panic, |(_, message)| message);
    // An error inside a panic is quoted, its line ends too.
    let message = message.split("\\n").next().unwrap_or_default();
    let message = message.lines().next().unwrap_or_default().trim();
    match message.contains("out of memory") || message.contains("allocate memory") {
        true => format!("{message}\nhint: lower --micro-tokens: the result stays the same"),
        false => format!("internal error: {message}"),
    }
}
