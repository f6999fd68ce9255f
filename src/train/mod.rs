//! Training: one loop for `pretrain` and `finetune`, and what it stands on.

mod adamw;
mod batches;
mod classify;
mod evaluate;
mod fit;
mod identity;
mod log;
mod mlm;
mod run;
mod schedule;
mod state;
mod windows;

pub use adamw::{AdamW, AdamWArgs};
pub use batches::{BatchArgs, Feed, Item, Micro, Rows, Step, ids, micro_batches, order};
pub use classify::{Classification, Labelled, unlabelled};
pub use evaluate::{ClassScores, MaskedScores, classes, lengths, masked, sweep};
pub use fit::{Best, Fit, FitArgs, Outcome, Task, Watch, fit};
pub use log::Log;
pub use mlm::{Epochs, Mlm, steps_of};
pub use run::{Course, Run, TrainArgs, about};
pub use schedule::{Schedule, ScheduleArgs, Shape};
pub use state::State;
pub use windows::{best, classify, probabilities};
