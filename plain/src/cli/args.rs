//! The command line, with `@FILE` recipes spliced in.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::flags::{fault, usage};

/// The name this program was called by.
pub fn program_name() -> String {
    let first = env::args_os().next().unwrap_or_default();
    Path::new(&first).file_stem().map_or("tapt".into(), |name| name.to_string_lossy().into_owned())
}

/// Recipes within recipes, at most.
const DEEPEST: usize = 8;

/// The arguments, each `@FILE` replaced by the arguments in that file (shell quoting, `#` comments), where `@FILE` may
/// stand again. Every path is relative to the current directory.
pub fn expand() -> Result<Vec<OsString>> {
    let mut args = env::args_os();
    let mut all: Vec<OsString> = args.next().into_iter().collect();
    args.try_for_each(|arg| splice(arg, 0, &mut all))?;
    Ok(all)
}

fn splice(arg: OsString, depth: usize, all: &mut Vec<OsString>) -> Result<()> {
    let Some(file) = arg.to_str().and_then(|arg| arg.strip_prefix('@')) else {
        all.push(arg);
        return Ok(());
    };
    if depth == DEEPEST {
        let cause = format!("@{file}: more than {DEEPEST} recipes within each other");
        return Err(fault(cause, "does a recipe name itself?"));
    }
    recipe(Path::new(file))?.into_iter().try_for_each(|arg| splice(arg, depth + 1, all))
}

fn recipe(file: &Path) -> Result<Vec<OsString>> {
    let text = fs::read_to_string(file).with_context(|| format!("@{}", file.display()))?;
    let Some(args) = shlex::split(&text) else {
        bail!("@{}: a quote is not closed", file.display());
    };
    Ok(args.into_iter().map(OsString::from).collect())
}

/// The model and the other paths of a program that takes `MODEL PATH…` or `--model MODEL PATH…`.
pub fn model_first(
    model: Option<PathBuf>,
    mut paths: Vec<PathBuf>,
) -> Result<(PathBuf, Vec<PathBuf>)> {
    match model {
        Some(model) => Ok((model, paths)),
        None if paths.is_empty() => {
            let cure = "name a directory that pretrain or finetune wrote, or one of Hugging Face";
            bail!(usage("no model given").hint(cure))
        }
        None => Ok((paths.remove(0), paths)),
    }
}

/// The command line as one would type it, for headers and logs, without what changes no byte of what is written.
pub fn command_line() -> String {
    let mut words = vec![program_name()];
    let mut rest = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--threads" | "-o" | "--output" => drop(rest.next()),
            "-q" | "--quiet" | "-v" | "--verbose" => {}
            word if ["--threads=", "--output="].iter().any(|flag| word.starts_with(flag)) => {}
            word if word.starts_with("-o") => {}
            _ => words.push(word),
        }
    }
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}
