use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};

use super::columns::{Row, Rows};

/// Rows that were left out because they cannot be read, as far as reading has come.
#[derive(Debug, Clone, Default)]
pub struct Skipped(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    read: AtomicU64,
    bad: AtomicU64,
    /// What was wrong with the first of the bad ones.
    first: OnceLock<String>,
}

impl Skipped {
    pub fn count(&self) -> u64 {
        self.0.bad.load(Ordering::Relaxed)
    }

    /// Itself, if there are any.
    pub fn some(&self) -> Option<&Self> {
        (self.count() > 0).then_some(self)
    }

    /// Leaves out what cannot be read: the inner errors. Fails at the end if nothing else was there.
    pub fn leave_out(
        self,
        rows: impl Iterator<Item = Result<Result<Row>>> + Send + 'static,
    ) -> Rows {
        let seen = self.clone();
        let read = rows.filter_map(move |row| match row {
            Err(error) => Some(Err(error)),
            Ok(row) => self.see(row).map(Ok),
        });
        let mut end = std::iter::once(seen);
        Box::new(read.chain(std::iter::from_fn(move || end.next()?.none_read().map(Err))))
    }

    fn see(&self, row: Result<Row>) -> Option<Row> {
        let count = if row.is_ok() { &self.0.read } else { &self.0.bad };
        count.fetch_add(1, Ordering::Relaxed);
        row.map_err(|error| self.0.first.get_or_init(|| format!("{error:#}"))).ok()
    }

    fn none_read(&self) -> Option<anyhow::Error> {
        let none = self.count() > 0 && self.0.read.load(Ordering::Relaxed) == 0;
        none.then(|| anyhow!("no row can be read; {self}"))
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let first = self.0.first.get().map_or("", String::as_str);
        match self.count() {
            1 => write!(f, "1 row skipped: {first}"),
            bad => write!(f, "{bad} rows skipped; the first: {first}"),
        }
    }
}
