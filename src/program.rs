//! What `pretrain` and `finetune` share as programs: a run watched from the terminal.

use anyhow::Result;
use serde_json::Value;

use crate::cli::{self, Progress, Stopped};
use crate::nn::Parameters;
use crate::train::{Course, Run, Task, TrainArgs, Watch};

/// Trains with a progress bar; gives the event to log once the model is saved. Fails with `Stopped` on a signal.
pub fn train(
    name: &'static str,
    run: &mut Run,
    task: &mut dyn Task,
    parameters: &Parameters,
    args: &TrainArgs,
    course: &Course,
) -> Result<Value> {
    let mut bar = Progress::new(name, course.total);
    let mut watch = Watch {
        stop: &cli::stop_requested,
        progress: &mut |step, loss, rate| bar.training(step, loss, rate),
        note: &|message| cli::warn(message),
    };
    let done = run.train(task, parameters, args, course, &mut watch)?;
    bar.finish();
    Ok(done.ok_or(Stopped)?)
}
