//! What flags take, and the error they and all else fail with where it knows a cure.

use std::time::Duration;

/// Threads of this name print nothing when they panic: who joins them makes an error of it.
pub const CAUGHT: &str = "caught";

/// What went wrong and, where one is known, its cure: `cli` prints the first after the program's name, the second as
/// `hint: …`, and ends with the status.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    pub cause: String,
    pub hint: Option<String>,
    /// 1, or 2 where the command line cannot be meant.
    pub status: u8,
}

impl Failure {
    /// The same with a cure.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// An error with a cure, for work that failed: exit status 1. `bail!` and `ensure!` take it as it is.
pub fn fault(cause: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Failure { cause: cause.into(), hint: Some(hint.into()), status: 1 }.into()
}

/// Flags that cannot be meant together, or with this model or data: exit status 2.
pub fn usage(cause: impl Into<String>) -> Failure {
    Failure { cause: cause.into(), hint: None, status: 2 }
}

/// A number in 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "it must lie in 0 to 1")
}

/// A share that leaves something over: above 0, below `most`.
pub fn part(text: &str, most: f64) -> Result<f64, String> {
    let wanted = format!("a share lies between 0 and {most}");
    number(text, |value| value > 0.0 && value < most, &wanted)
}

/// A number from 0 up, below 1.
pub fn below_one(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..1.0).contains(&value), "it must lie in 0 to below 1")
}

/// A finite number, 0 or above.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0 && value.is_finite(), "it must be 0 or above")
}

/// A finite number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value.is_finite(), "it must be above 0")
}

/// A count, 1 or above.
pub fn count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 up is wanted".into()),
        Ok(count) => Ok(count),
    }
}

/// A number of threads, 1 or above.
pub fn threads(text: &str) -> Result<usize, String> {
    count(text).map(|threads| threads as usize)
}

/// A time: a number of seconds, or with s, m or h behind it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|unit| "smh".find(unit));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let seconds = 60f64.powi(unit.unwrap_or(0) as i32);
    let number: f64 = digits.parse().map_err(|_| "a time such as 90s, 30m or 8h is wanted")?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

fn number(text: &str, holds: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "a number is wanted".to_owned())?;
    if holds(value) { Ok(value) } else { Err(wanted.to_owned()) }
}
