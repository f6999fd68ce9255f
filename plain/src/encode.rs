use std::io::Write;

use anyhow::Result;

use crate::data::{Dataset, Example, LabelKind, hashes, in_batches};
use crate::shard::{Problem, Writer};
use crate::text::{Count, Packer, Tokenizer};

/// Encodes what a data set has, on all threads, into a token shard; `command` is the line that asked for it. Returns
/// what it was written to, and counts of what was written.
pub fn encode<W: Write + Send>(
    data: Dataset,
    tokenizer: &Tokenizer,
    command: String,
    out: W,
) -> Result<(W, Count)> {
    let problem = match data.kind {
        LabelKind::Class => Problem::Classes,
        LabelKind::Classes(_) => Problem::MultiLabel,
        LabelKind::Number => Problem::Regression,
    };
    let mut writer = Writer::new(out, tokenizer.header(data.source, command)).problem(problem);
    if !data.labels.is_empty() {
        writer = writer.labels(data.labels);
    }
    let mut packer = Packer::new(tokenizer);
    in_batches(
        data.examples,
        |texts| Ok(tokenizer.pieces_batch(texts)?.into_iter().zip(hashes(texts)).collect()),
        |Example { text, pair, label, row }, (pieces, hashes)| {
            writer.texts(hashes);
            let whole = packer.add((&text, pair.as_deref()), pieces, label, row)?;
            whole.into_iter().try_for_each(|sequence| writer.push(sequence))
        },
    )?;
    packer.rest().into_iter().try_for_each(|sequence| writer.push(sequence))?;
    Ok((writer.finish()?, packer.into_count()))
}
