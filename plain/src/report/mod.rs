//! Scores and logs to one table.

mod arm;
mod table;

pub use arm::{Arm, SCORES, Score, arms, scores_below};
pub use table::{markdown, text};
