//! Seeds: one for everything that is drawn, or one for each kind.

use clap::Args;
use serde::Serialize;

/// Seeds, as flags.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct SeedArgs {
    /// Seed of everything drawn: new weights, order, masks, dropout
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Seed of new weights alone [default: --seed]
    #[arg(long, value_name = "SEED")]
    pub init_seed: Option<u64>,

    /// Seed of the order alone [default: --seed]
    #[arg(long, value_name = "SEED")]
    pub order_seed: Option<u64>,

    /// Seed of dropout and other noise alone [default: --seed]
    #[arg(long, value_name = "SEED")]
    pub dropout_seed: Option<u64>,
}

impl SeedArgs {
    pub fn init(&self) -> u64 {
        self.init_seed.unwrap_or(self.seed)
    }

    pub fn order(&self) -> u64 {
        self.order_seed.unwrap_or(self.seed)
    }

    pub fn dropout(&self) -> u64 {
        self.dropout_seed.unwrap_or(self.seed)
    }
}
