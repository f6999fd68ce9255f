//! What a linear classifier finds in a layer.

use anyhow::{Result, ensure};
use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::flags::fault;
use crate::random::generator;

/// The gradient that ends the search, as a share of that at its start.
const SMALL: f64 = 1e-9;
const STEPS: usize = 200;
/// Conjugate gradients in a step at most: more would not end where next to nothing bounds the weights.
const CURVES: usize = 500;

/// How strictly a probe is fitted.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
pub struct Strictness {
    /// The inverse of the L2 penalty's strength, as C of scikit-learn's LogisticRegression
    #[arg(long, default_value_t = 1.0, value_parser = crate::flags::positive)]
    pub c: f64,

    /// Scale every number of the vectors to variance 1 over the texts that the probe learns from
    #[arg(long)]
    pub standardize: bool,
}

impl Default for Strictness {
    fn default() -> Self {
        Self { c: 1.0, standardize: false }
    }
}

/// Multinomial logistic regression with an L2 penalty on its weights but not on its intercepts.
pub struct Probe {
    /// `[H + 1, classes]`; the last row are the intercepts.
    weights: DMatrix<f64>,
    /// The classes that it learnt.
    classes: Vec<usize>,
}

impl Probe {
    /// The one optimum, which is scikit-learn's `LogisticRegression(C=c)`, after `StandardScaler` with `standardize`. A row
    /// of `points` is a text, its last number 1; texts of class None are left out. Fails where C is too large for the
    /// optimum to be found.
    pub fn fit(
        points: &DMatrix<f64>,
        gold: &[Option<usize>],
        strictness: Strictness,
    ) -> Result<Self> {
        let mut classes: Vec<usize> = gold.iter().flatten().copied().collect();
        classes.sort_unstable();
        classes.dedup();
        let column = |class: usize| classes.binary_search(&class).ok();
        let gold: Vec<Option<usize>> = gold.iter().map(|class| class.and_then(column)).collect();
        let penalty = penalty(points, &gold, classes.len(), strictness);
        let weights = Problem { points, gold, classes: classes.len(), penalty }.solve()?;
        Ok(Self { weights, classes })
    }

    /// Logits `[texts, classes]` of the classes that it learnt, in order; they are told but for a number that is added to
    /// all of a text.
    pub fn logits(&self, points: &DMatrix<f64>) -> DMatrix<f64> {
        points * &self.weights
    }

    /// The class of each text.
    pub fn classes(&self, points: &DMatrix<f64>) -> Vec<usize> {
        let first_largest = |row: nalgebra::RowDVector<f64>| {
            let largest = row.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
            self.classes[largest.map_or(0, |(class, _)| class)]
        };
        self.logits(points).row_iter().map(|row| first_largest(row.into_owned())).collect()
    }
}

/// Of each of the vectors' numbers, what its weights' squares cost, halved. Centred vectors that are divided by a deviation
/// have weights larger by it, so scaling is a matter of the penalty alone.
fn penalty(
    points: &DMatrix<f64>,
    gold: &[Option<usize>],
    classes: usize,
    strictness: Strictness,
) -> Vec<f64> {
    // Of two classes there, one vector of weights is penalised: here it is the difference of two opposite ones.
    let base = if classes == 2 { 2.0 } else { 1.0 } / strictness.c;
    let learnt: Vec<usize> = (0..gold.len()).filter(|text| gold[*text].is_some()).collect();
    let variance = |column: usize| {
        let values = || learnt.iter().map(|text| points[(*text, column)]);
        let mean = values().sum::<f64>() / learnt.len() as f64;
        values().map(|value| (value - mean).powi(2)).sum::<f64>() / learnt.len() as f64
    };
    let own = |column: usize| match strictness.standardize {
        true => Some(variance(column)).filter(|variance| *variance > 0.0).unwrap_or(1.0),
        false => 1.0,
    };
    let columns = points.ncols() - 1;
    (0..columns).map(|column| base * own(column)).chain([0.0]).collect()
}

/// The loss that the weights make least: the sum of the texts' cross-entropies and of half the penalties.
struct Problem<'a> {
    points: &'a DMatrix<f64>,
    gold: Vec<Option<usize>>,
    classes: usize,
    penalty: Vec<f64>,
}

impl Problem<'_> {
    /// Newton's method; each step by conjugate gradients, as far as it is worth (Nocedal and Wright 2006, algorithm 7.1).
    fn solve(&self) -> Result<DMatrix<f64>> {
        let mut weights = DMatrix::zeros(self.points.ncols(), self.classes);
        let (mut shares, mut loss) = self.shares(&weights);
        let mut gradient = self.gradient(&shares, &weights);
        let first = gradient.norm();
        for _ in 0..STEPS {
            let size = gradient.norm();
            if size <= SMALL * first {
                return Ok(weights);
            }
            let within = size * (size / first).sqrt().min(0.1);
            let step = self.step(&shares, &gradient, within);
            let slope = gradient.dot(&step);
            let mut length = 1.0;
            loop {
                let next = &weights + &step * length;
                let (own, found) = self.shares(&next);
                // Near the end, rounding is larger than what is gained.
                if found <= loss + 1e-4 * length * slope + 1e-14 * loss || length < 1e-9 {
                    (weights, shares, loss) = (next, own, found);
                    break;
                }
                length /= 2.0;
            }
            gradient = self.gradient(&shares, &weights);
        }
        // What rounding leaves of the gradient may be more, where vectors are large.
        let is_there = gradient.norm() <= 1e-6 * first;
        ensure!(is_there, fault("the probe finds no optimum", "a smaller --c, or --standardize"));
        Ok(weights)
    }

    /// The probabilities of all classes `[texts, classes]`, 0 for texts that are left out, and the loss.
    fn shares(&self, weights: &DMatrix<f64>) -> (DMatrix<f64>, f64) {
        let mut shares = self.points * weights;
        let mut loss = 0.0;
        for (mut row, gold) in shares.row_iter_mut().zip(&self.gold) {
            let Some(gold) = gold else {
                row.fill(0.0);
                continue;
            };
            let (most, own) = (row.max(), row[*gold]);
            row.apply(|logit| *logit = (*logit - most).exp());
            let sum = row.sum();
            loss += sum.ln() + most - own;
            row /= sum;
        }
        let penalties = weights.row_iter().zip(&self.penalty);
        loss += penalties.map(|(row, by)| by * row.norm_squared() / 2.0).sum::<f64>();
        (shares, loss)
    }

    fn gradient(&self, shares: &DMatrix<f64>, weights: &DMatrix<f64>) -> DMatrix<f64> {
        let mut wrong = shares.clone();
        for (text, gold) in self.gold.iter().enumerate() {
            gold.iter().for_each(|gold| wrong[(text, *gold)] -= 1.0);
        }
        self.back(&wrong, weights)
    }

    /// What a change of the logits, `[texts, classes]`, is to the weights, and the penalty of these.
    fn back(&self, change: &DMatrix<f64>, weights: &DMatrix<f64>) -> DMatrix<f64> {
        let mut back = (change.transpose() * self.points).transpose();
        for (column, by) in self.penalty.iter().enumerate() {
            back.row_mut(column)
                .zip_apply(&weights.row(column), |back, weight| *back += by * weight);
        }
        back
    }

    /// The Hessian times a direction.
    fn curve(&self, shares: &DMatrix<f64>, direction: &DMatrix<f64>) -> DMatrix<f64> {
        let mut change = self.points * direction;
        for (mut row, shares) in change.row_iter_mut().zip(shares.row_iter()) {
            let mean = row.dot(&shares);
            row.zip_apply(&shares, |change, share| *change = share * (*change - mean));
        }
        self.back(&change, direction)
    }

    /// The diagonal of the Hessian, by which conjugate gradients are scaled.
    fn diagonal(&self, shares: &DMatrix<f64>) -> DMatrix<f64> {
        let squares = self.points.map(|value| value * value);
        let spread = shares.map(|share| share * (1.0 - share));
        let mut diagonal = (spread.transpose() * squares).transpose();
        for (mut row, by) in diagonal.row_iter_mut().zip(&self.penalty) {
            row.add_scalar_mut(*by);
        }
        diagonal.map(|value| value.max(f64::MIN_POSITIVE))
    }

    /// The step to where the gradient of the parabola at hand is `within` of 0.
    fn step(&self, shares: &DMatrix<f64>, gradient: &DMatrix<f64>, within: f64) -> DMatrix<f64> {
        let diagonal = self.diagonal(shares);
        let mut step = DMatrix::zeros(gradient.nrows(), gradient.ncols());
        let mut rest = -gradient;
        let mut scaled = rest.component_div(&diagonal);
        let mut direction = scaled.clone();
        let mut product = rest.dot(&scaled);
        for _ in 0..CURVES {
            if rest.norm() <= within {
                break;
            }
            let curve = self.curve(shares, &direction);
            let along = direction.dot(&curve);
            if along <= 0.0 {
                break;
            }
            let length = product / along;
            step += &direction * length;
            rest -= curve * length;
            scaled = rest.component_div(&diagonal);
            let next = rest.dot(&scaled);
            direction = &scaled + direction * (next / product);
            product = next;
        }
        step
    }
}

/// Which of `count` folds each text is in: drawn by the seed, every class spread over all.
pub fn folds(classes: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.shuffle(&mut generator("probe", seed, 0));
    order.sort_by_key(|text| classes[*text]);
    let mut folds = vec![0; classes.len()];
    order.iter().enumerate().for_each(|(place, text)| folds[*text] = place % count);
    folds
}

/// How many texts are right when each is classified by a probe that learnt from the other folds. A row of `points` is a
/// text, its last number 1.
pub fn cross_validated(
    points: &DMatrix<f64>,
    classes: &[usize],
    folds: &[usize],
    strictness: Strictness,
) -> Result<usize> {
    let count = folds.iter().max().map_or(0, |last| last + 1);
    let right = |fold: usize| {
        let texts = classes.iter().zip(folds);
        let gold: Vec<_> = texts.map(|(class, own)| (*own != fold).then_some(*class)).collect();
        let found = Probe::fit(points, &gold, strictness)?.classes(points);
        let is_right = |text: &usize| folds[*text] == fold && found[*text] == classes[*text];
        Ok((0..classes.len()).filter(is_right).count())
    };
    let all: Vec<usize> = (0..count).into_par_iter().map(right).collect::<Result<_>>()?;
    Ok(all.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Two places of one text each, at -1 and 1. The loss is ln(1 + exp(-2 w)) from each side but for the penalty w² / 2 c,
        // with w of the log odds: twice exp(-w) / (1 + exp(-w)) = w / c.
        let points = DMatrix::from_row_slice(2, 2, &[-1.0, 1.0, 1.0, 1.0]);
        let strictness = Strictness { c: 2.0, standardize: false };
        let probe = Probe::fit(&points, &[Some(3), Some(7)], strictness).unwrap();
        let logits = probe.logits(&points);
        let w = logits[(1, 1)] - logits[(1, 0)];
        assert!((2.0 / (1.0 + w.exp()) - w / 2.0).abs() < 1e-9, "{w}");
        assert_eq!(probe.classes(&points), [3, 7]);
    }

    #[test]
    fn scale_is_nothing_to_a_standardized_probe() {
        let value = |i: usize, at: usize| ((i * 7 + at * 5 + i * i) % 11) as f64;
        let gold: Vec<_> = (0..20).map(|i| Some(i % 3)).collect();
        let fit = |scale: f64, standardize| {
            let points = DMatrix::from_fn(20, 4, |i, at| match at {
                3 => 1.0,
                0 => value(i, at) * scale,
                _ => value(i, at),
            });
            let probe = Probe::fit(&points, &gold, Strictness { c: 1.0, standardize }).unwrap();
            probe.logits(&points)
        };
        assert!((fit(1.0, true) - fit(0.01, true)).amax() < 1e-6);
        assert!((fit(1.0, false) - fit(0.01, false)).amax() > 1e-2);
    }

    #[test]
    fn folds_have_a_share_of_every_class() {
        let classes: Vec<usize> = (0..103).map(|i| if i < 50 { 2 } else { i % 2 }).collect();
        let found = folds(&classes, 5, 1);
        for fold in 0..5 {
            let of = |class| (0..103).filter(|i| classes[*i] == class && found[*i] == fold).count();
            assert_eq!(of(2), 10);
            assert!([0, 1].iter().all(|class| (4..=6).contains(&of(*class))), "{found:?}");
        }
        assert_eq!(found, folds(&classes, 5, 1));
        assert_ne!(found, folds(&classes, 5, 2));
    }

    #[test]
    fn what_was_not_learnt_is_never_right() {
        let points =
            DMatrix::from_row_slice(5, 2, &[0.0, 1.0, 0.1, 1.0, 5.0, 1.0, 5.1, 1.0, 9.0, 1.0]);
        let right =
            cross_validated(&points, &[0, 0, 1, 1, 2], &[0, 1, 0, 1, 1], Strictness::default());
        assert_eq!(right.unwrap(), 4);
    }
}
