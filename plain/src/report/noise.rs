//! Whether two arms differ by more than chance.

use super::arm::Arm;
use super::run::Run;
use super::score::Score;
use super::spread::Spread;
use crate::metrics::{Z975, mcnemar, t975, wilson};
use crate::predictions::Pair;

/// How a difference was held against chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Test {
    /// Paired by seed: Student's t of the differences (1908).
    Paired { seeds: usize },
    /// Of different seeds: Welch's t (1947).
    Welch,
    /// Of one seed: McNemar's exact test (1947) of the texts that one of two runs has right and the other has not.
    McNemar { gained: u64, lost: u64, p: f64 },
    /// Of one seed, without its predictions: whether Wilson's intervals (1927) overlap.
    Wilson,
    /// Nothing that could tell is there.
    Untold,
}

/// An arm less the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub mean: f64,
    /// Of 95 %, where the test gives one.
    pub interval: Option<(f64, f64)>,
    pub test: Test,
    /// Whether chance alone may have made it; nothing where that is not told.
    pub is_noise: Option<bool>,
}

impl Test {
    /// In words, for a page that says which was used.
    pub fn named(self) -> String {
        match self {
            Self::Paired { seeds } => format!("paired t over {seeds} seeds"),
            Self::Welch => "Welch's t over different seeds".into(),
            Self::McNemar { gained, lost, p } => {
                let p = if p < 0.0005 { "p < 0.001".into() } else { format!("p = {p:.3}") };
                format!("McNemar over texts of one seed: {gained} gained, {lost} lost, {p}")
            }
            Self::Wilson => "overlap of Wilson intervals, one seed".into(),
            Self::Untold => "none: one seed".into(),
        }
    }

    /// Without the numbers, for a footnote.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Paired { .. } => "paired t over seeds",
            Self::Welch => "Welch's t",
            Self::McNemar { .. } => "McNemar's test over texts",
            Self::Wilson => "overlap of Wilson intervals",
            Self::Untold => "no test",
        }
    }
}

/// How `arm` differs from the baseline in a score. Nothing where one of them has no such score, or they are the same.
pub fn difference(arm: &Arm, base: &Arm, score: &Score) -> Option<Difference> {
    let (ours, theirs) = (arm.values(score)?, base.values(score)?);
    if arm.place == base.place {
        return None;
    }
    let pairs = pairs(arm, base);
    let found = paired(&pairs, ours, theirs).or_else(|| welch(ours, theirs));
    found.or_else(|| {
        let (i, j) = pairs.first().copied().unwrap_or((0, 0));
        let apart = Some(ours[i] - theirs[j]).filter(|apart| apart.is_finite())?;
        Some(of_two(&arm.runs[i], &base.runs[j], score, apart))
    })
}

/// The places of runs with the same seed.
fn pairs(arm: &Arm, base: &Arm) -> Vec<(usize, usize)> {
    let same = |run: &Run| base.runs.iter().position(|other| other.seed == run.seed);
    arm.runs.iter().enumerate().filter_map(|(i, run)| Some((i, same(run)?))).collect()
}

fn paired(pairs: &[(usize, usize)], ours: &[f64], theirs: &[f64]) -> Option<Difference> {
    let differences: Vec<f64> = pairs.iter().map(|&(i, j)| ours[i] - theirs[j]).collect();
    let spread = Spread::of(&differences)?;
    let interval = spread.interval()?;
    Some(told(spread.mean, interval, Test::Paired { seeds: spread.n }))
}

fn welch(ours: &[f64], theirs: &[f64]) -> Option<Difference> {
    let (a, b) = (Spread::of(ours)?, Spread::of(theirs)?);
    let share = |of: &Spread| Some(of.sd?.powi(2) / of.n as f64);
    let (va, vb) = (share(&a)?, share(&b)?);
    let below = va.powi(2) / (a.n as f64 - 1.0) + vb.powi(2) / (b.n as f64 - 1.0);
    // Without any spread the interval has no width, whatever the degrees of freedom.
    let degrees = if below > 0.0 { (va + vb).powi(2) / below } else { 1.0 };
    let (mean, half) = (a.mean - b.mean, t975(degrees) * (va + vb).sqrt());
    Some(told(mean, (mean - half, mean + half), Test::Welch))
}

fn told(mean: f64, interval: (f64, f64), test: Test) -> Difference {
    let is_noise = interval.0 <= 0.0 && interval.1 >= 0.0;
    // Seeds that agree to the last text are a coincidence of few texts, and no certainty.
    let agree = interval.1 - interval.0 < 1e-9 && !is_noise;
    Difference { mean, interval: Some(interval), test, is_noise: (!agree).then_some(is_noise) }
}

/// Two runs, by their texts: only accuracy is a share of texts.
fn of_two(ours: &Run, theirs: &Run, score: &Score, mean: f64) -> Difference {
    let is_accuracy = score.key == "accuracy";
    let texts = is_accuracy.then(|| by_texts(ours, theirs)).flatten();
    let overlap = || is_accuracy.then(|| overlap(ours, theirs)).flatten();
    let (test, is_noise) = match texts {
        Some((gained, lost, p)) => (Test::McNemar { gained, lost, p }, Some(p >= 0.05)),
        // Intervals that overlap tell nothing: differences of 5 % chance may lie within.
        None => overlap()
            .map_or((Test::Untold, None), |overlap| (Test::Wilson, (!overlap).then_some(false))),
    };
    Difference { mean, interval: None, test, is_noise }
}

/// Texts that only the first has right, those that only the second has, and the chance of a division as uneven, by the
/// `predictions.jsonl` of both. Nothing where they are not there, cannot be read, or are of other texts.
fn by_texts(ours: &Run, theirs: &Run) -> Option<(u64, u64, f64)> {
    let [ours, theirs] = [ours, theirs].map(|run| run.beside("predictions.jsonl"));
    let [_, gained, lost] = Pair::open(&ours, &theirs).ok()?.right();
    Some((gained, lost, mcnemar(gained, lost)))
}

fn overlap(ours: &Run, theirs: &Run) -> Option<bool> {
    let (a, b) = (accuracy_interval(ours)?, accuracy_interval(theirs)?);
    Some(a.0 <= b.1 && b.0 <= a.1)
}

/// The interval of a run's accuracy over texts: as the score has it, else Wilson's.
pub fn accuracy_interval(run: &Run) -> Option<(f64, f64)> {
    let told = &run.score["intervals"]["accuracy"];
    if let (Some(low), Some(high)) = (told[0].as_f64(), told[1].as_f64()) {
        return Some((low, high));
    }
    let (share, texts) =
        (run.score["scores"]["accuracy"].as_f64()?, run.score["examples"].as_u64()?);
    Some(wilson((share * texts as f64).round() as u64, texts, Z975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_in_pairs() {
        // Differences 0.1, 0.2, 0.3: mean 0.2, sd 0.1, t(2) = 4.3027.
        let pairs = [(0, 0), (1, 1), (2, 2)];
        let found = paired(&pairs, &[0.5, 0.7, 0.9], &[0.4, 0.5, 0.6]).unwrap();
        let (low, high) = found.interval.unwrap();
        let half = 4.302652729749462 * 0.1 / 3f64.sqrt();
        assert!((low - (0.2 - half)).abs() < 1e-6 && (high - (0.2 + half)).abs() < 1e-6);
        assert_eq!((found.is_noise, found.test), (Some(true), Test::Paired { seeds: 3 }));
        assert_eq!(paired(&pairs[..1], &[0.5], &[0.4]), None, "one seed tells nothing of seeds");
        let far = paired(&pairs, &[0.5, 0.6, 0.7], &[0.1, 0.19, 0.3]).unwrap();
        assert_eq!(far.is_noise, Some(false));
    }

    #[test]
    fn seeds_apart() {
        // scipy.stats.ttest_ind([1, 2, 4], [5, 9], equal_var=False).confidence_interval(), SciPy 1.17.
        let found = welch(&[1.0, 2.0, 4.0], &[5.0, 9.0]).unwrap();
        let (low, high) = found.interval.unwrap();
        assert!((low + 19.214009).abs() < 1e-3 && (high - 9.880676).abs() < 1e-3, "{low} {high}");
        assert_eq!(welch(&[1.0], &[5.0, 9.0]), None);
        assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]).unwrap().is_noise, None, "no spread, no test");
    }
}
