//! The log beside a model: `docs/formats.md`, Log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What the last run of a log says; a run that was resumed is one run.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The `run` event.
    pub run: Value,
    /// The `step` events by step: of a step that was done twice, the last.
    pub steps: BTreeMap<u64, Value>,
    /// The scores of the `eval` events.
    pub evals: BTreeMap<u64, Value>,
    /// Nats of a masked token of the guard's shard.
    pub guards: BTreeMap<u64, f64>,
    /// Steps that were passed over, their loss being no number.
    pub skipped: usize,
    /// The `done` event; null of a run that is not.
    pub done: Value,
}

impl Log {
    /// Fails where the file has no run in it, or a line is not JSON; it is named.
    pub fn read(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(named)?;
        let (mut log, mut older) = (Self::default(), Self::default());
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).with_context(named)?;
            match event["event"].as_str() {
                Some("run") => older = std::mem::replace(&mut log, Self::begun(event)),
                Some("resume") => log = Self { run: log.run, ..std::mem::take(&mut older) },
                _ => log.add(event),
            }
        }
        ensure!(!log.run.is_null(), "{}: no run in it", named());
        Ok(log)
    }

    fn begun(run: Value) -> Self {
        Self { run, ..Self::default() }
    }

    fn add(&mut self, event: Value) {
        let kind = event["event"].as_str().unwrap_or_default().to_owned();
        let step = event["step"].as_u64().unwrap_or(0);
        match kind.as_str() {
            "step" => drop(self.steps.insert(step, event)),
            "eval" => drop(self.evals.insert(step, event["scores"].clone())),
            "guard" => drop(event["nats"].as_f64().map(|nats| self.guards.insert(step, nats))),
            "skip" => self.skipped += 1,
            "done" => self.done = event,
            _ => {}
        }
    }

    /// Seconds over all processes of the run; 0 where it is not done.
    pub fn seconds(&self) -> f64 {
        self.done["seconds"].as_f64().unwrap_or(0.0)
    }

    /// The most memory of a kind that a process of the run held, in bytes: `max_rss` or `max_memory_allocated`.
    pub fn memory(&self, key: &str) -> Option<f64> {
        let events = self.steps.values().chain([&self.done]);
        events.filter_map(|event| event[key].as_f64()).reduce(f64::max)
    }

    /// The model the run started from.
    pub fn model(&self) -> Option<PathBuf> {
        self.run["config"]["model"].as_str().map(PathBuf::from)
    }

    /// A number of the `step` events, by step; those that are no numbers are left out.
    pub fn curve(&self, key: &str) -> Vec<(f64, f64)> {
        numbers(self.steps.iter().map(|(step, event)| (step, &event[key])))
    }

    /// A score of the `eval` events, by step.
    pub fn scored(&self, key: &str) -> Vec<(f64, f64)> {
        numbers(self.evals.iter().map(|(step, scores)| (step, &scores[key])))
    }
}

fn numbers<'a>(values: impl Iterator<Item = (&'a u64, &'a Value)>) -> Vec<(f64, f64)> {
    values.filter_map(|(step, value)| Some((*step as f64, value.as_f64()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Log {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines).unwrap();
        Log::read(file.path()).unwrap()
    }

    const FIRST: &str = "{\"event\":\"run\",\"trained\":1}\n{\"event\":\"step\",\"step\":1,\"loss\":3}\n\
        {\"event\":\"step\",\"step\":2,\"loss\":2}\n{\"event\":\"eval\",\"step\":2,\"scores\":{\"loss\":4}}\n\
        {\"event\":\"run\",\"trained\":2}\n";

    #[test]
    fn a_new_run_forgets_the_one_before() {
        let log = read(&format!("{FIRST}{{\"event\":\"step\",\"step\":1,\"loss\":null}}\n"));
        assert_eq!((log.curve("loss"), log.scored("loss")), (vec![], vec![]));
    }

    #[test]
    fn a_resumed_run_goes_on_and_the_last_line_of_a_step_counts() {
        let rest =
            "{\"event\":\"resume\",\"step\":1}\n{\"event\":\"step\",\"step\":2,\"loss\":1}\n";
        let log = read(&format!("{FIRST}{rest}"));
        assert_eq!(log.curve("loss"), [(1.0, 3.0), (2.0, 1.0)]);
        assert_eq!(log.scored("loss"), [(2.0, 4.0)]);
        assert_eq!(log.run["trained"], 2);
    }
}
