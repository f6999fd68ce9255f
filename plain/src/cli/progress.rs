//! Progress of long work: a bar on a terminal, plain lines otherwise, nothing with `-q`, every call with `-v`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Seconds between plain lines when standard error is not a terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// A count towards a known end.
pub struct Progress {
    bar: ProgressBar,
    said: Instant,
    plain: bool,
}

impl Progress {
    pub fn new(what: &'static str, total: u64) -> Self {
        Self::styled(what.to_owned(), total, "{pos}/{len} {msg}")
    }

    /// A count whose end nobody knows.
    pub fn endless(what: &'static str) -> Self {
        let progress = Self::styled(what.to_owned(), 0, "");
        progress.bar.unset_length();
        progress.bar.set_style(style("{prefix} {spinner} {pos} {msg} {elapsed}"));
        progress
    }

    /// A download of so many bytes; 0 if nobody knows.
    pub fn bytes(what: &str, total: u64) -> Self {
        Self::styled(
            what.to_owned(),
            total,
            "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
        )
    }

    fn styled(what: String, total: u64, count: &str) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if terminal && !super::is_quiet() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_style(style(&format!("{{prefix}} {{wide_bar}} {count} {{eta}} left")));
        bar.set_prefix(what);
        Self { bar, said: Instant::now(), plain: !terminal && !super::is_quiet() }
    }

    /// `at` of the total is done; `message` says how it goes.
    pub fn set(&mut self, at: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(at);
        if !self.plain {
            self.bar.set_message(message());
        } else if super::is_verbose() || self.said.elapsed() >= PAUSE {
            self.said = Instant::now();
            let total = self.bar.length().map_or(String::new(), |total| format!("/{total}"));
            super::note(format_args!("{} {at}{total} {}", self.bar.prefix(), message()));
        }
    }

    /// `step` steps are done, at this mean loss and so many tokens a second.
    pub fn training(&mut self, step: u64, loss: f64, rate: f64) {
        self.set(step, || format!("loss {loss:.3}, {rate:.0} tokens/s"));
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar())
}
