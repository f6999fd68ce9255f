//! What `make install` asks of every program: its man page, and what shells complete. `--generate` is none of the
//! flags of a program, so that it stands neither in their help nor in what is generated.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::program;
use crate::flags::usage;

/// What a program may end with, as the README has it.
const STATUS: [&str; 4] = [
    "0: done, also when the reader of a pipe has gone",
    "1: failed",
    "2: usage",
    "75: stopped, and the state saved: the same command goes on (pretrain, finetune)",
];

/// What is asked for, if `--generate WHAT` is all that the program was given.
pub fn asked() -> Option<OsString> {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    match &args[..] {
        [flag, what] if flag == "--generate" => Some(what.clone()),
        _ => None,
    }
}

/// Writes to standard output a man page, or a script for the shell of this name.
pub fn write(command: Command, what: &str) -> Result<()> {
    let mut command = command.name(program()).bin_name(program());
    let shell = match what {
        "man" => return Ok(io::stdout().write_all(&man(command)?)?),
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => bail!(usage(format!("--generate {what}: man, bash, zsh or fish"))),
    };
    // The generator takes a failed write for a defect of ours.
    let mut script = Vec::new();
    generate(shell, &mut command, program(), &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// The sections of a man page. The indented lines of the help are its examples.
fn man(command: Command) -> Result<Vec<u8>> {
    let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let (examples, text): (Vec<&str>, Vec<&str>) =
        about.lines().partition(|line| line.starts_with("  "));
    let man = Man::new(command.long_about(text.join("\n").trim().to_owned()));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    section("EXAMPLES", &examples).to_writer(&mut page)?;
    section("EXIT STATUS", &STATUS).to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Lines as they are.
fn section(title: &str, lines: &[&str]) -> Roff {
    let mut section = Roff::new();
    section.control("SH", [title]).control("nf", []);
    for line in lines {
        section.text([roman(line.trim_start())]);
    }
    section.control("fi", []);
    section
}
