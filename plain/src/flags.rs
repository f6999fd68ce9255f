//! Kinds of numbers that flags take, with their errors.

/// Flags that cannot be meant together, or with this model or data: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A number in 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    let value = number(text)?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("it must lie in 0 to 1".into()) }
}

/// A number from 0 up, below 1.
pub fn below_one(text: &str) -> Result<f64, String> {
    let value = number(text)?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("it must lie in 0 to below 1".into()) }
}

/// A finite number, 0 or above.
pub fn not_negative(text: &str) -> Result<f64, String> {
    let value = number(text)?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("it must be 0 or above".into()) }
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

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "a number is wanted".to_owned())
}
