//! How much a program says on standard error.

use std::sync::atomic::{AtomicU8, Ordering};

use clap::Args;

/// How much to say, as flags.
#[derive(Debug, Clone, Copy, Args)]
pub struct Talk {
    /// Say nothing but errors
    #[arg(short, long, overrides_with = "verbose")]
    quiet: bool,

    /// Say more, where there is more to say: every step of long work
    #[arg(short, long, overrides_with = "quiet")]
    verbose: bool,
}

static LEVEL: AtomicU8 = AtomicU8::new(1);

impl Talk {
    /// Holds from here on.
    pub fn apply(self) {
        let level = if self.quiet { 0 } else { 1 + u8::from(self.verbose) };
        LEVEL.store(level, Ordering::Relaxed);
    }
}

pub fn is_quiet() -> bool {
    LEVEL.load(Ordering::Relaxed) == 0
}

pub fn is_verbose() -> bool {
    LEVEL.load(Ordering::Relaxed) == 2
}
