use anyhow::Result;

use super::{Example, Examples};

/// Examples worked on at a time; the next ones are read meanwhile.
const BATCH: usize = 4096;

/// Hands every example on in order, with what `work` makes of its text and second text. `work` gets many at a time,
/// and must give one result for each.
pub fn in_batches<T: Send>(
    mut examples: Examples,
    work: impl Fn(&[(&str, Option<&str>)]) -> Result<Vec<T>> + Sync,
    mut take: impl FnMut(Example, T) -> Result<()>,
) -> Result<()> {
    let mut batch = read(&mut examples)?;
    while !batch.is_empty() {
        let texts: Vec<_> = batch.iter().map(|e| (e.text.as_str(), e.pair.as_deref())).collect();
        let (next, done) = rayon::join(|| read(&mut examples), || work(&texts));
        batch.into_iter().zip(done?).try_for_each(|(example, done)| take(example, done))?;
        batch = next?;
    }
    Ok(())
}

fn read(examples: &mut Examples) -> Result<Vec<Example>> {
    examples.take(BATCH).collect()
}
