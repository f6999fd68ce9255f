//! What a classifier answers, text by text.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use tch::Device;

use super::classify::THRESHOLD;
use super::windows::{best, of_texts};
use crate::checkpoint::{self, Checkpoint, Head, Loaded};
use crate::flags::{positive, usage};
use crate::model::SequenceClassifier;
use crate::native::Place;
use crate::nn::Nothing;
use crate::shard::{Problem, in_digits};
use crate::text::{Encoded, Tokenizer};

/// What is asked of a classifier, as flags.
#[derive(Debug, Clone, Args)]
pub struct AnswerArgs {
    /// Also give the K most probable classes
    #[arg(long, value_name = "K")]
    top: Option<usize>,

    /// Divide logits by this: above 1 probabilities are less sure; `evaluate --temperature-from` finds one
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = positive)]
    temperature: f64,
}

/// A classifier, and where it is an adapter beside others, which.
pub struct Answerer {
    adapter: Option<PathBuf>,
    loaded: Loaded<SequenceClassifier>,
    labels: Vec<String>,
    problem: Problem,
}

impl Answerer {
    /// The model `base`, of this name, with an adapter if one is given, and its tokenizer.
    pub fn open(
        base: &Checkpoint,
        (model, adapter): (&Path, Option<&PathBuf>),
        device: Device,
    ) -> Result<(Self, Tokenizer)> {
        let checkpoint = base.with(adapter.map(PathBuf::as_path))?.merging(true);
        let named = || adapter.map_or(model, PathBuf::as_path).display().to_string();
        let tokenizer = checkpoint::tokenizer(&checkpoint)?;
        let labels = checkpoint.labels().with_context(named)?;
        let problem = checkpoint.problem().with_context(named)?;
        let loaded = checkpoint.classifier(labels.len(), &Nothing, Head::Given, device);
        let loaded = loaded.with_context(named)?;
        Ok((Self { adapter: adapter.cloned(), loaded, labels, problem }, tokenizer))
    }

    /// Fails where there are no probabilities for the flags to speak of.
    pub fn check(&self, args: &AnswerArgs) -> Result<()> {
        let given = [("--top", args.top.is_some()), ("--temperature", args.temperature != 1.0)];
        for (flag, _) in given.into_iter().filter(|(_, given)| *given) {
            let cause = || usage(format!("{flag}: the model predicts a number, not classes"));
            ensure!(self.problem != Problem::Regression, cause());
        }
        Ok(())
    }

    /// For each text, in its windows, its class, its classes or its number and, where that is asked, the most probable ones.
    pub fn answers(
        &self,
        texts: Vec<Vec<Encoded>>,
        args: &AnswerArgs,
        place: Place,
    ) -> Result<Vec<Value>> {
        let how = (args.temperature, place);
        let all = of_texts((&self.loaded.model, self.problem), texts, how)?;
        Ok(all.iter().map(|probs| self.answer(probs, args.top)).collect())
    }

    fn answer(&self, said: &[f32], top: Option<usize>) -> Value {
        let scored = |i: usize| json!({"label": self.labels[i], "score": said[i]});
        let mut order: Vec<usize> = (0..said.len()).collect();
        order.sort_by(|&a, &b| said[b].total_cmp(&said[a]));
        let mut answer = match self.problem {
            Problem::Classes => scored(best(said)),
            Problem::MultiLabel => {
                let chosen = order.iter().filter(|&&i| said[i] >= THRESHOLD);
                json!({"labels": chosen.map(|&i| scored(i)).collect::<Vec<_>>()})
            }
            Problem::Regression => json!({"score": in_digits(said[0])}),
        };
        if let Some(top) = top {
            answer["top"] = order.into_iter().take(top).map(scored).collect();
        }
        self.adapter.iter().for_each(|adapter| answer["adapter"] = json!(adapter));
        answer
    }
}
