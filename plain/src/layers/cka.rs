//! How alike two layers are, whatever their widths.

use nalgebra::DMatrix;
use rayon::prelude::*;

/// Columns that are multiplied at once.
const COLUMNS: usize = 64;

/// Linear centred kernel alignment (Kornblith et al. 2019, equation 5) of two layers, from the `product` of both and that of
/// each with itself. From 0 to 1; 1 for layers that are rotations, shifts and multiples of each other. None where all texts
/// of a layer are in one place. Of fewer texts than a layer is wide it comes out too high.
pub fn cka(both: f64, a: f64, b: f64) -> Option<f64> {
    (a > 0.0 && b > 0.0).then(|| both / (a * b).sqrt())
}

/// The squared Frobenius norm of the products of the columns of two layers, of centred vectors `[texts, H]` each, whatever
/// their widths.
pub fn product(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
    let across = b.transpose();
    let part =
        |from: usize| (&across * a.columns(from, COLUMNS.min(a.ncols() - from))).norm_squared();
    let starts: Vec<usize> = (0..a.ncols()).step_by(COLUMNS).collect();
    // In order, so that threads change no bit.
    let parts: Vec<f64> = starts.into_par_iter().map(part).collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::vectors::centre;

    fn layer(rows: usize, values: &[f64]) -> DMatrix<f64> {
        let mut points = DMatrix::from_row_slice(rows, values.len() / rows, values);
        centre(&mut points);
        points
    }

    fn alike(a: &DMatrix<f64>, b: &DMatrix<f64>) -> Option<f64> {
        cka(product(a, b), product(a, a), product(b, b))
    }

    #[test]
    fn by_hand() {
        // Centred, (-1, 0, 1) and (-1, 2, -1) are orthogonal, and each is itself.
        let (line, bend) = (layer(3, &[0.0, 1.0, 2.0]), layer(3, &[3.0, 6.0, 3.0]));
        assert_eq!(alike(&line, &bend), Some(0.0));
        assert_eq!(alike(&line, &layer(3, &[9.0, 7.0, 5.0])), Some(1.0));
        // Both in one layer: with itself 2² + 6², with `line` 2².
        let both = layer(3, &[0.0, 3.0, 1.0, 6.0, 2.0, 3.0]);
        assert!((alike(&line, &both).unwrap() - 4.0 / (2.0 * 40f64.sqrt())).abs() < 1e-15);
    }

    #[test]
    fn of_one_place_it_is_not_defined() {
        let line = layer(3, &[0.0, 1.0, 2.0]);
        assert_eq!(alike(&line, &layer(3, &[0.1; 3])), None);
        assert_eq!(alike(&layer(1, &[1.0, 2.0]), &layer(1, &[1.0])), None);
    }
}
