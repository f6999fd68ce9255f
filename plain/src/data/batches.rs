use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::{Example, Examples};

/// Rows worked on at a time, unless they are long; the next ones are read meanwhile.
const ROWS: usize = 4096;
/// Rows read ahead at most.
const AHEAD: usize = 16 * ROWS;
/// Bytes of text after which no further row is taken.
const BYTES: usize = 1 << 24;

/// Hands every example on in order, with what `work` makes of its text and second text. `work` gets many at a time,
/// and must give one result for each; meanwhile the next ones are read and those before them handed on.
pub fn in_batches<T: Send>(
    mut examples: Examples,
    work: impl Fn(&[(&str, Option<&str>)]) -> Result<Vec<T>> + Sync,
    mut take: impl FnMut(Example, T) -> Result<()> + Send,
) -> Result<()> {
    let mut hand_on = |(examples, done): (Vec<Example>, Vec<T>)| {
        examples.into_iter().zip(done).try_for_each(|(example, done)| take(example, done))
    };
    let mut batch = read(&mut examples)?;
    let mut last = (Vec::new(), Vec::new());
    while !batch.is_empty() {
        let texts: Vec<_> = batch.iter().map(|e| (e.text.as_str(), e.pair.as_deref())).collect();
        let (next, (handed_on, done)) = rayon::join(
            || read(&mut examples),
            || rayon::join(|| hand_on(std::mem::take(&mut last)), || work(&texts)),
        );
        handed_on?;
        last = (batch, done?);
        batch = match next {
            Ok(next) => next,
            Err(error) => return hand_on(last).and(Err(error)),
        };
    }
    hand_on(last)
}

/// The same examples; until `enough` is set some are read and kept.
pub fn read_ahead(mut examples: Examples, enough: &AtomicBool) -> Examples {
    let (mut ahead, mut bytes) = (Vec::new(), 0);
    while !enough.load(Ordering::Relaxed) && ahead.len() < AHEAD && bytes < BYTES {
        let Some(example) = examples.next() else { break };
        bytes += example.as_ref().map_or(BYTES, Example::bytes);
        ahead.push(example);
    }
    Box::new(ahead.into_iter().chain(examples))
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
                bytes += example(&row).bytes();
                batch.push(row);
            }
        }
    }
    (batch, None)
}
