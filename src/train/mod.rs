//! Training: one loop for `pretrain` and `finetune`, and what it stands on.

mod adamw;
mod answer;
mod batches;
mod classify;
mod evaluate;
mod fit;
mod identity;
mod log;
mod mlm;
mod objective;
mod plateau;
mod rates;
mod reload;
mod run;
mod schedule;
mod seeds;
mod state;
mod window;
mod windows;

pub use adamw::{AdamW, AdamWArgs};
pub use answer::Answerer;
pub use batches::{BatchArgs, Feed, Item, Micro, Rows, Step, ids, micro_batches, order};
pub use classify::{Classification, Labelled, unlabelled};
pub use evaluate::{LabelScores, MaskedScores, labelled, lengths, masked, sweep};
pub use fit::{Best, Evaluation, Fit, FitArgs, Outcome, Task, Watch, fit};
pub use log::Log;
pub use mlm::{Epochs, Mlm, steps_of};
pub use objective::{Objective, ObjectiveArgs};
pub use plateau::{Plateau, Reduction};
pub use rates::RateArgs;
pub use reload::{Headed, MERGED, Probe};
pub use run::{Course, Run, TrainArgs, about};
pub use schedule::{Fall, Schedule, ScheduleArgs, Shape};
pub use seeds::SeedArgs;
pub use state::State;
