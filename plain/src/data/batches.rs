use anyhow::Result;

use super::{Example, Examples};

/// Rows worked on at a time, unless they are long; the next ones are read meanwhile.
const ROWS: usize = 4096;
/// Bytes of text after which no further row is taken.
const BYTES: usize = 1 << 24;

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

/// The next examples; none at the end.
pub fn read(examples: &mut Examples) -> Result<Vec<Example>> {
    let (batch, error) = next(examples, |example| example);
    error.map_or(Ok(batch), Err)
}

/// The next rows, up to an error.
pub fn next<T>(
    rows: &mut impl Iterator<Item = Result<T>>,
    example: impl Fn(&T) -> &Example,
) -> (Vec<T>, Option<anyhow::Error>) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < ROWS && bytes < BYTES {
        match rows.next() {
            None => break,
            Some(Err(error)) => return (batch, Some(error)),
            Some(Ok(row)) => {
                let Example { text, pair, .. } = example(&row);
                bytes += text.len() + pair.as_deref().map_or(0, str::len);
                batch.push(row);
            }
        }
    }
    (batch, None)
}
