//! How far apart classes lie, compared with how far each spreads.

use nalgebra::DMatrix;
use rayon::prelude::*;

/// Distances that a thread holds at most, unless one text has more.
const DISTANCES: usize = 1 << 20;

/// The mean silhouette of the rows of `points` (Rousseeuw 1987; scikit-learn's `silhouette_score`): of each text, its mean
/// Euclidean distance to the nearest other class less that to its own, as a share of the larger; 0 for the one text of a
/// class. None unless there are at least 2 classes, and more texts than classes. It takes time in the square of the texts,
/// and no such memory.
pub fn silhouette(points: &DMatrix<f64>, classes: &[usize]) -> Option<f64> {
    let texts = points.nrows();
    let mut counts = vec![0usize; classes.iter().max()? + 1];
    classes.iter().for_each(|class| counts[*class] += 1);
    let occur = counts.iter().filter(|count| **count > 0).count();
    if occur < 2 || occur >= texts {
        return None;
    }
    let across = points.transpose();
    let squares: Vec<f64> = across.column_iter().map(|text| text.norm_squared()).collect();
    let each = (DISTANCES / texts).clamp(1, texts);
    let of_block = |from: usize| {
        let products = points * across.columns(from, each.min(texts - from));
        let own = |(at, products): (usize, &[f64])| {
            let text = from + at;
            let square = |other: usize| squares[text] + squares[other] - 2.0 * products[other];
            of_text(text, classes, &counts, |other| square(other).max(0.0).sqrt())
        };
        products.as_slice().chunks_exact(texts).enumerate().map(own).collect::<Vec<f64>>()
    };
    let starts: Vec<usize> = (0..texts).step_by(each).collect();
    // In order, so that threads change no bit.
    let all: Vec<Vec<f64>> = starts.into_par_iter().map(of_block).collect();
    Some(all.iter().flatten().sum::<f64>() / texts as f64)
}

fn of_text(
    text: usize,
    classes: &[usize],
    counts: &[usize],
    distance: impl Fn(usize) -> f64,
) -> f64 {
    let own = classes[text];
    if counts[own] == 1 {
        return 0.0;
    }
    let mut sums = vec![0.0; counts.len()];
    let others = (0..classes.len()).filter(|other| *other != text);
    others.for_each(|other| sums[classes[other]] += distance(other));
    let within = sums[own] / (counts[own] - 1) as f64;
    let other = |class: &usize| *class != own && counts[*class] > 0;
    let between = (0..counts.len())
        .filter(other)
        .map(|class| sums[class] / counts[class] as f64)
        .fold(f64::INFINITY, f64::min);
    let most = within.max(between);
    if most > 0.0 { (between - within) / most } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // On a line: 0 and 1 of one class, 4 and 6 of the other, a fifth alone in a class that is the last by number.
        let points = DMatrix::from_row_slice(5, 1, &[0.0, 1.0, 4.0, 6.0, 100.0]);
        let wanted =
            [(5.0 - 1.0) / 5.0, (4.0 - 1.0) / 4.0, (3.5 - 2.0) / 3.5, (5.5 - 2.0) / 5.5, 0.0];
        let found = silhouette(&points, &[0, 0, 2, 2, 5]).unwrap();
        assert!((found - wanted.iter().sum::<f64>() / 5.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn where_it_is_not_defined() {
        let points = DMatrix::from_row_slice(3, 1, &[0.0, 1.0, 2.0]);
        assert_eq!(silhouette(&points, &[1, 1, 1]), None);
        assert_eq!(silhouette(&points, &[0, 1, 2]), None);
        assert_eq!(silhouette(&DMatrix::from_element(1, 1, 1.0), &[0]), None);
        // All in one place.
        assert_eq!(silhouette(&DMatrix::from_element(4, 2, 1.5), &[0, 1, 0, 1]), Some(0.0));
    }
}
