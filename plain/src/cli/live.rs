//! Lines on standard output that change: redrawn in place on a terminal, written anew with what is new otherwise.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Letters of a name that a terminal's line has room for; of a longer path, its end is shown.
const NAME: usize = 24;

/// Lines by name.
pub struct Live {
    /// Where there is a terminal.
    screen: Option<MultiProgress>,
    lines: BTreeMap<String, (ProgressBar, Vec<String>)>,
}

impl Live {
    pub fn stdout() -> Self {
        let target = ProgressDrawTarget::stdout();
        let screen = io::stdout().is_terminal().then(|| MultiProgress::with_draw_target(target));
        Self { screen, lines: BTreeMap::new() }
    }

    /// A line that may change, in parts, which stand below each other.
    pub fn set(&mut self, name: &str, parts: &[String], is_news: bool) -> io::Result<()> {
        let Some(screen) = &self.screen else {
            return if is_news { written(name, parts) } else { Ok(()) };
        };
        let line = self.lines.entry(name.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{wide_msg}");
            let style = style.unwrap_or(ProgressStyle::default_bar());
            let hidden = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            (screen.add(hidden.with_style(style)), Vec::new())
        });
        line.1 = [&[ending(name)], parts].concat();
        Ok(())
    }

    /// A line that will not change again. On a terminal it stands above the others.
    pub fn end(&mut self, name: &str, parts: &[String]) -> io::Result<()> {
        let Some(screen) = &self.screen else { return written(name, parts) };
        if let Some((line, _)) = self.lines.remove(name) {
            line.finish_and_clear();
            screen.remove(&line);
        }
        screen.println(format!("{name}: {}", parts.join(", ")))
    }

    /// Draws the lines as they are.
    pub fn draw(&self) {
        let most = self.lines.values().map(|(_, parts)| parts.len()).max().unwrap_or(0);
        let width = |part: usize| {
            let lengths = self.lines.values().filter_map(|(_, parts)| parts.get(part));
            lengths.map(|part| part.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..most).map(width).collect();
        for (line, parts) in self.lines.values() {
            let padded = parts.iter().zip(&widths).filter(|(_, width)| **width > 0);
            let padded = padded.map(|(part, width)| format!("{part:<width$}"));
            line.set_message(padded.collect::<Vec<_>>().join("  "));
        }
    }

    /// Leaves the lines as they are.
    pub fn finish(self) {
        self.lines.values().for_each(|(line, _)| line.abandon());
    }
}

fn written(name: &str, parts: &[String]) -> io::Result<()> {
    let parts: Vec<&str> =
        parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    io::stdout().write_all(format!("{name}: {}\n", parts.join(", ")).as_bytes())
}

/// The end of a long path, from where a part of it begins.
fn ending(path: &str) -> String {
    let mut rest = path;
    while rest.chars().count() > NAME
        && let Some((_, after)) = rest.split_once('/')
    {
        rest = after;
    }
    if rest.len() < path.len() { format!("…/{rest}") } else { rest.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_path_the_end_is_shown() {
        assert_eq!(ending("runs/ag/base/full/0"), "runs/ag/base/full/0");
        let long = "runs/minilm-limit1000-test1000-steps60/ag_news/base/full/0";
        assert_eq!(ending(long), "…/ag_news/base/full/0");
        let one = "a".repeat(40);
        assert_eq!(ending(&one), one);
    }
}
