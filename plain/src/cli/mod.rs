//! The process: arguments and recipes, streams, exit codes, signals, progress.
//! The only room that prints, exits or reads the environment.
#![allow(clippy::disallowed_methods)]

mod args;
mod generate;
mod live;
mod output;
mod partial;
mod progress;
mod say;
mod signal;
mod spool;
mod talk;

use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Result;
use clap::Parser;

pub use args::{command_line, model_first};
pub use live::Live;
pub use output::{Output, apart, output, text_output};
pub use progress::Progress;
pub use say::{note, object, warn};
pub use signal::{on_stop, pause, stop_requested};
pub use spool::Spool;
pub use talk::{Talk, is_quiet, is_verbose};

use crate::flags::Failure;

/// The work stopped on a signal, its state is saved, the same command goes on: exit status 75.
#[derive(Debug, thiserror::Error)]
#[error("stopped; run the same command again to go on")]
pub struct Stopped;

/// Rows and sequences are allocated by one thread and freed by another, which the C library's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static PROGRAM: OnceLock<String> = OnceLock::new();

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

/// A variable of the environment that another program's users know; `hub` reads those of the hub.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Expands recipes, parses, runs, and turns errors into messages and exit codes.
pub fn main<A: Parser>(run: fn(A) -> Result<()>) -> ExitCode {
    let _ = PROGRAM.set(args::program_name());
    let cure =
        "lower --micro-tokens, or give --activation-checkpointing: the result stays the same";
    say::panics(has_flag::<A>("micro-tokens").then_some(cure));
    signal::survive_limits();
    if let Some(what) = generate::asked() {
        return ended(generate::write(A::command(), &what.to_string_lossy()));
    }
    let args = match args::expand() {
        Ok(args) => args,
        Err(error) => return say::report(&error, 2),
    };
    let args = match A::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return say::parsing(&error),
    };
    match panic::catch_unwind(AssertUnwindSafe(|| run(args))) {
        Ok(result) => ended(result),
        Err(_) => ExitCode::from(1),
    }
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => say::report(&error, status(&error)),
    }
}

fn has_flag<A: Parser>(name: &str) -> bool {
    A::command().get_arguments().any(|arg| arg.get_long() == Some(name))
}

fn status(error: &anyhow::Error) -> u8 {
    match error.is::<Stopped>() {
        true => 75,
        false => error.downcast_ref::<Failure>().map_or(1, |failure| failure.status),
    }
}

/// A closed pipe is how `| head` says it has enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.any(|io| io.kind() == ErrorKind::BrokenPipe)
}
