//! Progress of long work: a bar on a terminal, plain lines otherwise, nothing with `-q`, every call with `-v`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Seconds between plain lines when standard error is not a terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// A count towards a known end.
pub struct Progress {
    bar: ProgressBar,
    said: Instant,
    plain: bool,
    /// Where training began, as far as was seen of it: a resumed run does not begin at 0.
    from: Option<(u64, Instant)>,
}

impl Progress {
    pub fn new(what: &'static str, total: u64) -> Self {
        Self::styled(what.to_owned(), total, "{pos}/{len} {msg}")
    }

    /// Steps of training, which say themselves how long it will take.
    pub fn steps(what: &'static str, total: u64) -> Self {
        let progress = Self::new(what, total);
        progress.bar.set_style(style("{prefix} {wide_bar} {pos}/{len} {msg}"));
        progress
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
        Self { bar, said: Instant::now(), plain: !terminal && !super::is_quiet(), from: None }
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
        let (first, since) = *self.from.get_or_insert((step, Instant::now()));
        let left = self.bar.length().unwrap_or(step).saturating_sub(step);
        let left = left_of(left, step - first.min(step), since.elapsed());
        let left = left.map_or(String::new(), |left| format!(", {} left", HumanDuration(left)));
        self.set(step, || format!("loss {loss:.3}, {rate:.0} tokens/s{left}"));
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// The time for so many steps, where so many took so long; nothing before there is a step to go by.
fn left_of(steps: u64, done: u64, took: Duration) -> Option<Duration> {
    (done > 0 && steps > 0).then(|| took.mul_f64(steps as f64 / done as f64))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_goes_by_steps_seen() {
        let took = Duration::from_secs(30);
        assert_eq!(left_of(100, 50, took), Some(Duration::from_secs(60)));
        assert_eq!(left_of(100, 0, took), None);
        assert_eq!(left_of(0, 50, took), None);
    }

    /// Of 1,000 steps a resumed run does 600: at 500 the first 400 count for nothing.
    #[test]
    fn a_resumed_run_is_no_faster_for_it() {
        let mut progress = Progress::steps("pretrain", 1000);
        progress.plain = false;
        progress.training(400, 2.0, 100.0);
        assert_eq!(progress.bar.message(), "loss 2.000, 100 tokens/s");
        progress.from = progress.from.map(|(step, at)| (step, at - Duration::from_secs(600)));
        progress.training(500, 1.5, 100.0);
        assert_eq!(progress.bar.message(), "loss 1.500, 100 tokens/s, 50 minutes left");
        progress.training(1000, 1.0, 100.0);
        assert_eq!(progress.bar.message(), "loss 1.000, 100 tokens/s");
    }
}
