//! Scoring as a program does it: what a line says of a model on a shard.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::baselines::baselines;
use super::shards;
use crate::checkpoint::{Checkpoint, Head};
use crate::cli::{self, Output, Progress};
use crate::flags::{fault, usage};
use crate::metrics::{KEPT, LabelProbabilities, Probabilities, temperature};
use crate::model::SequenceClassifier;
use crate::native::Place;
use crate::nn::Nothing;
use crate::shard::{Labels, Problem, Shard};
use crate::train::{self, Hearing, Labelled, best};

/// What a model is compared with, as flags.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A shard the model was fine-tuned on, for baselines: its most frequent classes or mean, naive Bayes over its tokens
    #[arg(long, value_name = "SHARD")]
    train: Vec<PathBuf>,

    /// A validation shard: the temperature that fits it best, and calibration with it
    #[arg(long, value_name = "SHARD")]
    temperature_from: Vec<PathBuf>,
}

impl ScoreArgs {
    /// Fails where there are no labels, or no probabilities, for the flags to speak of.
    fn check(&self, problem: Option<Problem>) -> Result<()> {
        let (is_masked, is_number) = (problem.is_none(), problem == Some(Problem::Regression));
        let (train, temperature) = (!self.train.is_empty(), !self.temperature_from.is_empty());
        ensure!(!(is_masked && train), usage("--train: only for labelled shards"));
        ensure!(!(is_masked && temperature), usage("--temperature-from: only for labelled shards"));
        let cause = "--temperature-from: the model predicts a number, not classes";
        ensure!(!(is_number && temperature), usage(cause));
        Ok(())
    }
}

/// Scores a model on a shard, labelled or masked; writes predictions where there is a place for them.
pub fn score(
    checkpoint: Checkpoint,
    (shard, name): (&Shard, &Path),
    (args, place): (&ScoreArgs, Place),
    predictions: Option<&mut Output>,
) -> Result<Map<String, Value>> {
    if !shard.is_masked() {
        return score_labelled(checkpoint, (shard, name), (args, place), predictions);
    }
    args.check(None)?;
    ensure!(predictions.is_none(), "--predictions: the shard is masked");
    score_masked(checkpoint, shard, place).context("the shard is masked")
}

fn score_masked(checkpoint: Checkpoint, shard: &Shard, place: Place) -> Result<Map<String, Value>> {
    let model = checkpoint.masked_lm(&Nothing, Head::Given, place.device)?;
    let (mut bar, mut done) = (Progress::new("evaluate", shard.len() as u64), 0);
    let scores = train::masked(&model.model, shard, place, &mut |more| {
        done += more as u64;
        bar.set(done, String::new);
    })?;
    bar.finish();
    let mut fields = Map::from_iter([
        ("masked".to_owned(), json!(scores.masked)),
        ("scores".to_owned(), scores.scores()),
    ]);
    fields.extend(scores.draws().map(|draws| ("draws".to_owned(), draws)));
    Ok(fields)
}

fn score_labelled(
    checkpoint: Checkpoint,
    (shard, name): (&Shard, &Path),
    (args, place): (&ScoreArgs, Place),
    predictions: Option<&mut Output>,
) -> Result<Map<String, Value>> {
    let labels = Labels::new(checkpoint.labels()?);
    let problem = checkpoint.problem()?;
    let rows = Labelled::new(shard, &labels, problem)?;
    args.check(Some(problem))?;
    let of_model = (checkpoint.dir.clone(), checkpoint.sizes());
    let open =
        |flag: &'static str, paths: &[PathBuf]| shards(flag, paths, (&of_model.0, &of_model.1));
    let learnt = open("--train", &args.train)?;
    let fitted = open("--temperature-from", &args.temperature_from)?;
    let learnt = against("--train", learnt.as_ref(), (&labels, problem))?;
    let fitted = against("--temperature-from", fitted.as_ref(), (&labels, problem))?;
    let names = labels.names();
    let model = checkpoint.classifier(names.len(), &Nothing, Head::Given, place.device)?.model;
    let temperature = match &fitted {
        Some(other) => Some(fit_temperature(&model, (other, &rows, name), place)?),
        None => None,
    };
    let bar = Progress::new("evaluate", rows.texts().len() as u64);
    let mut hearer =
        Hearer { rows: &rows, names, predictions, bar, worth: Worth::new(&rows, temperature) };
    let scores = train::labelled(&model, &rows, place, &mut hearer)?;
    hearer.bar.finish();
    let mut fields = scores.fields(&rows, names);
    fields.extend(hearer.worth.fields(name));
    fields.insert("baselines".into(), baselines(&rows, learnt.as_ref()));
    Ok(fields)
}

/// The texts of a flag, in terms of the model's classes.
fn against<'a>(
    flag: &'static str,
    shard: Option<&'a Shard>,
    (labels, problem): (&Labels, Problem),
) -> Result<Option<Labelled<'a>>> {
    shard.map(|shard| Labelled::new(shard, labels, problem)).transpose().context(flag)
}

/// What is counted of probabilities, besides the scores.
enum Worth {
    Classes(Probabilities),
    MultiLabel(LabelProbabilities),
    Nothing,
}

impl Worth {
    fn new(rows: &Labelled, temperature: Option<f64>) -> Self {
        let (classes, texts) = (rows.classes(), rows.texts().len());
        match rows.problem {
            Problem::Classes => Self::Classes(Probabilities::new(classes, texts, temperature)),
            Problem::MultiLabel => {
                Self::MultiLabel(LabelProbabilities::new(classes, texts, temperature))
            }
            Problem::Regression => Self::Nothing,
        }
    }

    /// What a line says of them; says where areas are left out.
    fn fields(&self, shard: &Path) -> Map<String, Value> {
        let (fields, left_out) = match self {
            Self::Classes(all) => (all.fields(), all.is_too_large()),
            Self::MultiLabel(all) => (all.fields(), all.is_too_large()),
            Self::Nothing => (Map::new(), false),
        };
        if left_out {
            let shard = shard.display();
            cli::note(format_args!(
                "{shard}: auc and average_precision are left out: of more than {KEPT} probabilities"
            ));
        }
        fields
    }
}

/// Counts what is said of texts, shows how far it is, and writes predictions in order.
struct Hearer<'a> {
    rows: &'a Labelled<'a>,
    names: &'a [String],
    predictions: Option<&'a mut Output>,
    bar: Progress,
    worth: Worth,
}

impl Hearing for Hearer<'_> {
    fn said(&mut self, text: usize, said: &[f64], answer: &[f32]) {
        match &mut self.worth {
            Worth::Classes(all) => all.add(said, answer, (best(answer), self.rows.class(text))),
            Worth::MultiLabel(all) => {
                let gold = self.rows.numbers(text);
                all.add(said, answer, gold.iter().map(|&gold| gold > 0.0));
            }
            Worth::Nothing => {}
        }
    }

    fn answered(&mut self, text: usize, answer: &[f32]) -> Result<()> {
        self.bar.set(text as u64 + 1, String::new);
        let mut out = self.predictions.iter_mut();
        out.try_for_each(|out| self.rows.write_prediction(out, self.names, (text, answer)))
    }
}

/// Keeps the logarithms of probabilities of the first texts, and which of them is right. Where a text has any number of
/// classes, each of them is one of two: there or not.
struct Logs<'a> {
    rows: &'a Labelled<'a>,
    most: usize,
    logs: Vec<f32>,
    gold: Vec<u32>,
}

impl Hearing for Logs<'_> {
    fn said(&mut self, text: usize, said: &[f64], answer: &[f32]) {
        if text >= self.most {
            return;
        }
        if self.rows.problem != Problem::MultiLabel {
            self.logs.extend(said.iter().map(|log| *log as f32));
            self.gold.push(self.rows.class(text) as u32);
            return;
        }
        let (yes, no) = said.split_at(answer.len());
        self.logs.extend(yes.iter().zip(no).flat_map(|(yes, no)| [*yes as f32, *no as f32]));
        self.gold.extend(self.rows.numbers(text).iter().map(|&is| u32::from(is <= 0.0)));
    }
}

/// The temperature that fits other texts than those scored; warns where they are the same.
fn fit_temperature(
    model: &SequenceClassifier,
    (other, scored, name): (&Labelled, &Labelled, &Path),
    place: Place,
) -> Result<f64> {
    const FLAG: &str = "--temperature-from";
    if other.shard.digest() == scored.shard.digest() {
        let name = name.display();
        cli::warn(format_args!(
            "{name}: the temperature is fitted on the very file that is scored"
        ));
    }
    let several = other.problem == Problem::MultiLabel;
    let (classes, texts) = (other.classes(), other.texts().len());
    let (of_text, columns) = if several { (2 * classes, 2) } else { (classes, classes) };
    let most = (KEPT / of_text).max(1);
    if texts > most {
        cli::note(format_args!("{FLAG}: the first {most} of its {texts} texts are used"));
    }
    let mut heard = Logs { rows: other, most, logs: Vec::new(), gold: Vec::new() };
    train::labelled(model, other, place, &mut heard).context(FLAG)?;
    let cause =
        || fault(format!("{FLAG}: a probability is no number"), "are there NaN among the weights?");
    temperature(&heard.logs, columns, &heard.gold).ok_or_else(cause)
}

/// Whether the weights in `dir` were chosen among others by their scores on this very shard, as its log says; warns if so.
pub fn chosen_on(dir: &Path, (shard, name): (&Shard, &Path)) -> Result<bool> {
    let Ok(log) = fs::read_to_string(dir.join("log.jsonl")) else { return Ok(false) };
    let (mut run, mut by) = (Value::Null, None);
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        match event["event"].as_str() {
            Some("run") => run = event["inputs"]["eval"].clone(),
            // Of several runs in a directory the last that ended left the weights.
            Some("done") => by = event["best"].is_object().then(|| run.clone()),
            _ => {}
        }
    }
    let Some(Value::String(digest)) = by else { return Ok(false) };
    let chosen = digest == shard.digest();
    if chosen {
        let name = name.display();
        cli::warn(format_args!(
            "{name}: the weights were chosen by their scores on this very file"
        ));
    }
    Ok(chosen)
}
