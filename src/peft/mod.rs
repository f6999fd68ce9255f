//! Methods of fine-tuning: one file each, answers to what a layer asks its `Scope` while it is built.

mod full;
mod head;
mod lora;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub use full::Full;
pub use head::HeadOnly;
pub use lora::{Lora, LoraConfig};

use crate::flags::usage;
use crate::nn::{Parameters, Peft};

/// The methods there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every weight trains
    Full,
    /// The encoder stays as it is; only the new head trains
    Head,
    /// Low-rank updates beside frozen linear layers (Hu et al. 2021); the head trains too
    Lora,
}

/// The method and its settings, as flags.
#[derive(Debug, Clone, Args, Serialize)]
pub struct MethodArgs {
    /// What trains
    #[arg(long, value_enum, default_value_t = Method::Full)]
    pub method: Method,

    #[command(flatten)]
    pub lora: LoraConfig,
}

impl MethodArgs {
    /// The plan. Fails on settings no method can have.
    pub fn plan(&self) -> Result<Box<dyn Peft>> {
        Ok(match self.method {
            Method::Full => Box::new(Full),
            Method::Head => Box::new(HeadOnly),
            Method::Lora => Box::new(Lora::new(self.lora.clone())?),
        })
    }

    /// Fails if the method added nothing to the model it was to change.
    pub fn check(&self, parameters: &Parameters) -> Result<()> {
        let added = parameters.iter().any(|parameter| parameter.added);
        ensure!(
            added || !self.is_adapter(),
            usage(format!(
                "--targets {}: the model has no such linear layer",
                self.lora.targets.join(",")
            ))
        );
        Ok(())
    }

    /// Whether what trains is saved as an adapter beside an untouched base.
    pub fn is_adapter(&self) -> bool {
        self.method == Method::Lora
    }
}
