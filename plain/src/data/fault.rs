/// An error with a known cure, which the program may print on a line of its own.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Fault {
    cause: String,
    pub cure: String,
}

impl Fault {
    /// An error that says `cause` and knows `cure`.
    pub fn error(cause: impl Into<String>, cure: impl Into<String>) -> anyhow::Error {
        Self { cause: cause.into(), cure: cure.into() }.into()
    }
}
