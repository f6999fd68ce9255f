//! A window through the model: sorted by length, its order restored.

use anyhow::Result;
use tch::Tensor;

use super::{Vectors, Window};
use crate::model::{Encoder, Form};
use crate::native::Place;
use crate::train::{Item, sweep};

/// The vectors of a window's sequences, in its order; `done` is told of each so many.
pub fn make(
    encoder: &dyn Encoder,
    window: Window,
    (form, each): (&Form, usize),
    place: Place,
    done: &mut dyn FnMut(usize),
) -> Result<Vectors> {
    let lengths: Vec<usize> = window.ids.iter().map(|ids| ids.tokens.len()).collect();
    let counts = if form.is_pooled() { vec![1; lengths.len()] } else { lengths.clone() };
    let starts: Vec<usize> = counts
        .iter()
        .scan(0, |next, count| {
            *next += count * each;
            Some(*next - count * each)
        })
        .collect();
    let mut numbers = vec![0.0; counts.iter().sum::<usize>() * each];
    let item = |i: usize| Item { ids: window.ids[i].clone(), ..Item::default() };
    sweep(&item, &lengths, place, &mut |group, micro| {
        let made: Tensor = form.vectors(encoder, &micro.batch);
        let made = Vec::<f32>::try_from(made.contiguous().view([-1]))?;
        let mut rest = &made[..];
        for &i in group {
            let (own, after) = rest.split_at(counts[i] * each);
            numbers[starts[i]..][..own.len()].copy_from_slice(own);
            rest = after;
        }
        done(group.len());
        Ok(())
    })?;
    Ok(Vectors { rows: window.rows, labels: window.labels, counts, numbers })
}
