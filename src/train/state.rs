//! What a stopped run needs to go on: one safetensors file, written beside and renamed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::adamw::AdamW;
use super::fit::Best;
use super::guard::Guarded;
use super::plateau::Plateau;
use crate::checkpoint::{read_about, read_tensors, write_tensors};

/// The place of the state of a run, and what makes it that run.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
    identity: String,
    /// What the run computes in, as `--dtype` names it.
    dtype: String,
    micro_tokens: u64,
}

/// How far a run has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Position {
    identity: String,
    dtype: String,
    /// Tokens per forward pass.
    #[serde(default)]
    micro_tokens: u64,
    /// Steps done.
    pub step: u64,
    /// Seconds of training, over all processes of the run.
    pub seconds: f64,
    /// Evaluations in a row without a better score.
    pub worse: u64,
    /// Steps passed over because they went wrong.
    #[serde(default)]
    pub passed_over: u64,
    /// What evaluations have made of the learning rate.
    pub plateau: Plateau,
    /// What a guard has seen, if there is one.
    pub guard: Option<Guarded>,
    best: Option<Mark>,
}

/// Where a run was best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub step: u64,
    pub score: f64,
    /// How it shows that nothing was learnt, in words.
    pub degenerate: Option<String>,
}

/// What is found where a state is looked for.
#[derive(Debug)]
pub enum Found {
    Nothing,
    /// A state of other settings or inputs: the run starts afresh.
    Foreign,
    /// A state of this run that was computed in other numbers.
    Otherwise(String),
    /// What is there is no state any more, and why.
    Damaged(String),
    Here(Box<Position>, BTreeMap<String, Tensor>),
}

impl State {
    /// The state of the run `identity` in `dir/state`.
    pub fn new(dir: &Path, identity: String, dtype: String, micro_tokens: u64) -> Self {
        Self { dir: dir.join("state"), identity, dtype, micro_tokens }
    }

    /// The identity of the run whose state lies in `dir/state`, and the tokens it takes at once, if there is one.
    pub fn begun(dir: &Path) -> Option<(String, u64)> {
        let about = read_about(&Self::new(dir, String::new(), String::new(), 0).file()).ok()?;
        let position: Position = serde_json::from_str(about.get("state")?).ok()?;
        (position.micro_tokens > 0).then_some((position.identity, position.micro_tokens))
    }

    fn file(&self) -> PathBuf {
        self.dir.join("state.safetensors")
    }

    /// Reads the state, if there is one of this run.
    pub fn find(&self) -> Result<Found> {
        if !self.file().exists() {
            return Ok(Found::Nothing);
        }
        match self.read() {
            Ok((position, _)) if position.identity != self.identity => Ok(Found::Foreign),
            Ok((position, _)) if position.dtype != self.dtype => {
                Ok(Found::Otherwise(position.dtype))
            }
            Ok((position, tensors)) => Ok(Found::Here(Box::new(position), tensors)),
            Err(error) => {
                let aside = self.dir.join("damaged.safetensors");
                fs::rename(self.file(), &aside).with_context(|| aside.display().to_string())?;
                Ok(Found::Damaged(format!("{error:#}; it is kept as {}", aside.display())))
            }
        }
    }

    fn read(&self) -> Result<(Position, BTreeMap<String, Tensor>)> {
        let (tensors, about) = read_tensors(&self.file())?;
        let about = about.get("state").context("it does not say how far the run was")?;
        Ok((serde_json::from_str(about)?, tensors))
    }

    pub fn save(&self, position: &Position, optimizer: &AdamW, best: Option<&Best>) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        let about = Position {
            identity: self.identity.clone(),
            dtype: self.dtype.clone(),
            micro_tokens: self.micro_tokens,
            best: best.map(|best| best.mark.clone()),
            ..position.clone()
        };
        let kept = best.iter().flat_map(|best| best.tensors.iter());
        let kept = kept.map(|(name, tensor)| (format!("best.{name}"), tensor));
        let all = optimizer.state().into_iter().chain(kept);
        write_tensors(&self.file(), all, ("state", serde_json::to_string(&about)?))
    }

    /// Removes the state: the run is done.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.dir.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

impl Position {
    /// The best so far, from the tensors saved with it.
    pub fn best(&self, tensors: BTreeMap<String, Tensor>) -> Option<Best> {
        let mark = self.best.clone()?;
        let kept = |(name, tensor): (String, Tensor)| {
            Some((name.strip_prefix("best.")?.to_owned(), tensor))
        };
        Some(Best { mark, tensors: tensors.into_iter().filter_map(kept).collect() })
    }
}
