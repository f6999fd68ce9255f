//! Scores and logs to a table, to Markdown and CSV, and to a page of tables and pictures.

mod arm;
mod csv;
mod follow;
mod log;
mod noise;
mod page;
mod run;
mod score;
mod spread;
mod states;
mod table;

pub use arm::{Arm, arms, check_baseline};
pub use csv::csv;
pub use follow::Follow;
pub use page::page;
pub use run::{CURE, scores_below};
pub use spread::Spread;
pub use table::{markdown, text};
