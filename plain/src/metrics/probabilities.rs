//! What the probabilities of a classifier are worth, counted as texts come.

use serde_json::{Map, Value, json};

use super::calibration::Calibration;
use super::confusion::ratio;
use super::rest::{Ranking, one_against_rest, ranking};
use super::top::is_among_top;

/// How many guesses are allowed.
const TOP: [usize; 2] = [2, 5];
/// Probabilities that are kept to be sorted at the end, at most: 320 MiB.
pub const KEPT: usize = 1 << 26;

/// Probabilities kept with whether they are of what a text is.
#[derive(Debug)]
pub struct Kept {
    columns: usize,
    scores: Vec<f32>,
    is: Vec<bool>,
}

impl Kept {
    /// For so many numbers of each of so many texts; none where these are more than are kept.
    pub fn new(columns: usize, texts: usize) -> Option<Self> {
        let all = texts.checked_mul(columns).filter(|&all| all <= KEPT)?;
        Some(Self { columns, scores: Vec::with_capacity(all), is: Vec::with_capacity(all) })
    }

    /// Takes in a text.
    pub fn add(&mut self, text: impl IntoIterator<Item = (f32, bool)>) {
        for (score, is) in text {
            self.scores.push(score);
            self.is.push(is);
        }
    }

    /// How well each column is told apart; of several the mean. None where a probability is no number.
    pub fn ranking(&self) -> Ranking {
        if self.scores.iter().any(|score| score.is_nan()) {
            return Ranking::default();
        }
        if self.columns == 1 {
            let all = self.scores.iter().zip(&self.is);
            return ranking(&all.map(|(&score, &is)| (f64::from(score), is)).collect::<Vec<_>>());
        }
        one_against_rest(&self.scores, self.columns, |text, class| {
            self.is[text * self.columns + class]
        })
    }

    /// Both areas, under their names.
    pub fn fields(&self) -> Map<String, Value> {
        let Ranking { auc, average_precision } = self.ranking();
        let both = [("auc", auc), ("average_precision", average_precision)];
        both.into_iter().map(|(name, area)| (name.to_owned(), json!(area))).collect()
    }
}

/// The probabilities of texts that are each of one class.
#[derive(Debug)]
pub struct Probabilities {
    classes: usize,
    texts: u64,
    calibration: Calibration,
    /// Texts whose class is among so many guesses.
    top: Vec<(usize, u64)>,
    kept: Option<Kept>,
}

impl Probabilities {
    /// For so many classes and texts, looked at as they are and, where it is given, at a temperature.
    pub fn new(classes: usize, texts: usize, temperature: Option<f64>) -> Self {
        // Of two classes the second tells both.
        let kept = Kept::new(if classes == 2 { 1 } else { classes }, texts);
        let top = TOP.into_iter().filter(|&k| k < classes).map(|k| (k, 0)).collect();
        Self { classes, texts: 0, calibration: Calibration::new(temperature), top, kept }
    }

    /// Whether there are too many probabilities to keep, so that areas are left out.
    pub fn is_too_large(&self) -> bool {
        self.kept.is_none()
    }

    /// Takes in a text: the logarithms of the probabilities of all classes, the probabilities, and the class that it is
    /// predicted to be and is.
    pub fn add(&mut self, logs: &[f64], probs: &[f32], (pred, gold): (usize, usize)) {
        self.texts += 1;
        self.calibration.add(logs, probs[pred], (pred, gold));
        let is_number = probs.iter().all(|prob| !prob.is_nan());
        for (k, right) in &mut self.top {
            *right += u64::from(is_number && is_among_top(probs, gold, *k));
        }
        let classes = if self.classes == 2 { 1..2 } else { 0..self.classes };
        if let Some(kept) = &mut self.kept {
            kept.add(classes.map(|class| (probs[class], class == gold)));
        }
    }

    /// What a score line says of them.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let share = |right: u64| json!(ratio(right as f64, self.texts as f64));
        let top: Map<_, _> =
            self.top.iter().map(|&(k, right)| (k.to_string(), share(right))).collect();
        if !top.is_empty() {
            fields.insert("top_k".into(), top.into());
        }
        fields.extend(self.kept.iter().flat_map(Kept::fields));
        fields.insert("calibration".into(), self.calibration.to_json());
        fields
    }
}

/// The probabilities of texts that have any number of classes: each class of each text is there or not.
#[derive(Debug)]
pub struct LabelProbabilities {
    calibration: Calibration,
    kept: Option<Kept>,
}

impl LabelProbabilities {
    /// For so many classes and texts, looked at as they are and, where it is given, at a temperature.
    pub fn new(classes: usize, texts: usize, temperature: Option<f64>) -> Self {
        Self { calibration: Calibration::new(temperature), kept: Kept::new(classes, texts) }
    }

    /// Whether there are too many probabilities to keep, so that areas are left out.
    pub fn is_too_large(&self) -> bool {
        self.kept.is_none()
    }

    /// Takes in a text: the logarithms of the probabilities of all classes and then of their contraries, the probabilities,
    /// and for each class whether the text has it.
    pub fn add(&mut self, logs: &[f64], probs: &[f32], gold: impl Iterator<Item = bool> + Clone) {
        let (yes, no) = logs.split_at(probs.len());
        for (class, is) in gold.clone().enumerate() {
            let pair = [yes[class], no[class]];
            self.calibration.add(&pair, probs[class], (0, usize::from(!is)));
        }
        if let Some(kept) = &mut self.kept {
            kept.add(probs.iter().copied().zip(gold));
        }
    }

    /// What a score line says of them.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields: Map<_, _> = self.kept.iter().flat_map(Kept::fields).collect();
        fields.insert("calibration".into(), self.calibration.to_json());
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::super::calibration::BINS;
    use super::*;

    fn said(texts: &[(&[f32], usize)], temperature: Option<f64>) -> Map<String, Value> {
        let mut all = Probabilities::new(texts[0].0.len(), texts.len(), temperature);
        for (probs, gold) in texts {
            let logs: Vec<f64> = probs.iter().map(|p| f64::from(*p).ln()).collect();
            let most = (0..probs.len()).rev().max_by(|&a, &b| probs[a].total_cmp(&probs[b]));
            all.add(&logs, probs, (most.unwrap(), *gold));
        }
        all.fields()
    }

    #[test]
    fn two_classes_are_told_by_the_second() {
        let texts: [(&[f32], usize); 4] =
            [(&[0.75, 0.25], 0), (&[0.25, 0.75], 1), (&[0.5, 0.5], 1), (&[0.5, 0.5], 0)];
        let found = said(&texts, Some(2.0));
        assert_eq!(found["auc"], 0.875);
        assert_eq!(found["average_precision"], 0.5 + 0.5 * (2.0 / 3.0));
        assert!(!found.contains_key("top_k"));
        let calibration = &found["calibration"];
        assert_eq!(calibration["bins"].as_array().unwrap().len(), BINS);
        // Two of 0.75 are right; of two of 0.5 one is.
        assert!((calibration["error"].as_f64().unwrap() - 0.125).abs() < 1e-9);
        // At 2, 0.75 is sqrt(3) / (1 + sqrt(3)).
        let cooler = 3f64.sqrt() / (1.0 + 3f64.sqrt());
        let scaled = &calibration["scaled"];
        assert!((scaled["error"].as_f64().unwrap() - (1.0 - cooler) / 2.0).abs() < 1e-7);
        let loss = -(cooler.ln() + 0.5f64.ln()) / 2.0;
        assert!((scaled["loss"].as_f64().unwrap() - loss).abs() < 1e-7);
    }

    /// Of each class by itself: what is said of it is its probability, not that of the likelier side.
    #[test]
    fn labels_are_told_one_by_one() {
        let mut all = LabelProbabilities::new(2, 2, Some(2.0));
        for (probs, gold) in [([0.75f32, 0.2], [true, false]), ([0.75, 0.2], [false, false])] {
            let logs = probs.iter().copied().chain(probs.map(|p| 1.0 - p));
            let logs: Vec<f64> = logs.map(|p| f64::from(p).ln()).collect();
            all.add(&logs, &probs, gold.into_iter());
        }
        let found = all.fields();
        // Two of 0.75, one is; two of 0.2, none is.
        let error = found["calibration"]["error"].as_f64().unwrap();
        assert!((error - (0.25 + 0.2) / 2.0).abs() < 1e-7, "{error}");
        assert_eq!((found["auc"].as_f64(), all.is_too_large()), (Some(0.5), false));
        // At 2, 0.75 is sqrt(3) / (1 + sqrt(3)), 0.2 is 1 / 3.
        let cooler = 3f64.sqrt() / (1.0 + 3f64.sqrt());
        let loss = -(cooler.ln() + (1.0 - cooler).ln() + 2.0 * (2.0f64 / 3.0).ln()) / 4.0;
        let scaled = &found["calibration"]["scaled"]["loss"];
        assert!((scaled.as_f64().unwrap() - loss).abs() < 1e-7, "{scaled}, not {loss}");
    }

    #[test]
    fn edges_are_defined() {
        // One class: nothing is told from anything.
        let one = said(&[(&[1.0], 0)], None);
        assert_eq!((&one["auc"], &one["average_precision"]), (&Value::Null, &Value::Null));
        assert_eq!(one["calibration"]["error"], 0.0);
        // What is no number has no score, and no guess of it is right.
        let probs = [f32::NAN; 3];
        let broken = said(&[(&probs, 0), (&[1.0, 0.0, 0.0], 0)], None);
        assert_eq!((&broken["auc"], &broken["calibration"]["error"]), (&Value::Null, &Value::Null));
        assert_eq!(broken["top_k"], json!({"2": 0.5}));
        // More than is kept.
        let large = Probabilities::new(1 << 20, 65, None);
        assert!(large.is_too_large() && !Probabilities::new(1 << 20, 64, None).is_too_large());
        assert!(!large.fields().contains_key("auc"));
        assert!(Kept::new(usize::MAX, 2).is_none());
    }
}
