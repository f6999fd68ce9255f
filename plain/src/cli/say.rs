//! What is said on standard error: notes, errors with their cures, what a panic means.

use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;
use std::thread;

use serde_json::Value;

use super::{is_quiet, program};
use crate::flags::{CAUGHT, Failure};

/// Whole lines, in one write. Where standard error is gone there is nobody to tell, and the work goes on.
fn say(lines: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("{}: {lines}\n", program()).as_bytes());
}

/// One line on standard error, unless `-q` was given.
pub fn note(message: impl fmt::Display) {
    if !is_quiet() {
        say(message);
    }
}

/// One line on standard error that `-q` does not silence: something the numbers depend on.
pub fn warn(message: impl fmt::Display) {
    say(message);
}

/// A JSON object as a line on standard error, for programs to read.
pub fn object(object: &Value) {
    let _ = io::stderr().write_all(format!("{object}\n").as_bytes());
}

/// An error on one line, and its cure on a second.
pub fn report(error: &anyhow::Error, status: u8) -> ExitCode {
    let hint = error.downcast_ref::<Failure>().and_then(|failure| failure.hint.as_ref());
    let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
    say(format_args!("{error:#}{hint}"));
    ExitCode::from(status)
}

/// What clap has to say: help as it is, errors in our form.
pub fn parsing(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        say(in_our_form(&error.render().to_string()));
    } else {
        let _ = error.print();
    }
    ExitCode::from(error.exit_code() as u8)
}

fn in_our_form(error: &str) -> String {
    error.trim_start_matches("error: ").replace("\n\n  tip: ", "\nhint: ").trim_end().to_owned()
}

/// From here on a panic is one line, and none where it is caught; `cure` is for one that ran out of memory.
pub fn panics(cure: Option<&'static str>) {
    panic::set_hook(Box::new(move |about| {
        if thread::current().name() != Some(CAUGHT) {
            say(sentence(&about.to_string(), cure));
        }
    }));
}

/// What a panic says, without the place in our source, LibTorch's stack trace, and the marks of a printed `Result`.
fn sentence(panic: &str, cure: Option<&str>) -> String {
    let message = panic.split_once('\n').map_or(panic, |(_, message)| message);
    // An error inside a panic is quoted, its line ends too.
    let message = message.split("\\n").next().unwrap_or_default();
    let message = message.lines().next().unwrap_or_default();
    let message = match message.split_once(" on an `Err` value: ") {
        Some((_, error)) => error.split_once("(\"").map_or(error, |(_, inside)| inside),
        None => message,
    };
    let message = message.trim_end_matches("\")").replace("\\\"", "\"");
    match message.contains("out of memory") || message.contains("allocate memory") {
        true => cure.iter().fold(message, |message, cure| format!("{message}\nhint: {cure}")),
        false => format!("internal error: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_read_as_sentences() {
        let torch = "panicked at src/x.rs:1:2:\ncalled `Result::unwrap()` on an `Err` value: \
                     Torch(\"size \\\"a\\\" (3) must be 4\\nException raised from x\\n\")";
        assert_eq!(sentence(torch, None), "internal error: size \"a\" (3) must be 4");
        let short =
            "panicked at a:1:2:\ncalled `Result::unwrap()` on an `Err` value: Torch(\"no\")";
        assert_eq!(sentence(short, None), "internal error: no");
        assert_eq!(sentence("panicked at a:1:2:\nplain\nmore", None), "internal error: plain");
    }

    #[test]
    fn only_who_has_the_flag_is_told_to_lower_it() {
        let memory = "panicked at a:1:2:\ncalled `Result::unwrap()` on an `Err` value: \
                      Torch(\"CUDA out of memory. Tried to allocate 2 GiB\\nException\")";
        assert_eq!(sentence(memory, None), "CUDA out of memory. Tried to allocate 2 GiB");
        let told = sentence(memory, Some("lower it"));
        assert_eq!(told, "CUDA out of memory. Tried to allocate 2 GiB\nhint: lower it");
    }
}
