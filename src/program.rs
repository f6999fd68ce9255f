//! What `pretrain` and `finetune` share as programs: a run watched from the terminal.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::checkpoint::read_texts;
use crate::cli::{self, Progress, Stopped};
use crate::nn::Parameters;
use crate::shard::{Manifest, Shard, Stage};
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

/// What a model will have met: what its base has, and the texts of these shards. Says where a shard does not name them.
pub fn texts(base: Option<&Path>, shards: &[(Stage, &Shard)]) -> Result<Manifest> {
    let mut met = base.map(read_texts).transpose()?.unwrap_or_default();
    for (stage, shard) in shards {
        if !met.add(*stage, shard) {
            let stage = stage.name();
            cli::note(format_args!(
                "the shards of {stage} do not name their texts: evaluate will not know which were seen"
            ));
        }
    }
    Ok(met)
}

/// How many of a shard's texts the model in `dir` met before, and at which stage; warns if it met any. Nothing where the
/// shard does not name its texts.
pub fn seen(dir: &Path, shard: &Shard, name: &Path) -> Result<Option<Value>> {
    let Some(mut texts) = shard.texts() else { return Ok(None) };
    texts.sort_unstable();
    texts.dedup();
    let mut seen = json!({"texts": texts.len()});
    for (stage, met) in read_texts(dir)?.seen(&texts) {
        let stage = stage.name();
        if let Some(met) = met.filter(|met| *met > 0) {
            let (shard, all) = (name.display(), texts.len());
            cli::warn(format_args!("{shard}: {met} of its {all} texts were seen in {stage}"));
        }
        seen[stage] = json!(met);
    }
    Ok(Some(seen))
}
