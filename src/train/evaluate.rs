//! Scores of a model on a shard: sorted by length within stretches, no gradient, results in the shard's order.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, no_grad};

use super::batches::{Item, Micro, micro_batches};
use super::classify::{Labelled, THRESHOLD};
use super::mlm::masked_item;
use super::windows::{answer, best, classify};
use crate::metrics::{Confusion, MultiLabel, Regression, Z975, mean_interval, wilson};
use crate::model::{MaskedLm, SequenceClassifier, cross_entropy};
use crate::native::Place;
use crate::shard::{Problem, Shard};

/// Tokens per forward pass.
const BUDGET: usize = 8192;
/// On the CPU, where what lies in the caches is quicker.
const CPU_BUDGET: usize = 2048;

/// Sequences that are sorted by length together, at most: what is held of a shard at once.
const SEQUENCES: usize = 4096;
/// Their tokens at most, unless one text has more.
const TOKENS: usize = 1 << 17;
/// Numbers that are kept of them at most, 128 MiB.
const NUMBERS: usize = 1 << 25;

/// What was counted of the predictions of a classifier, or of a regression.
#[derive(Debug)]
enum Counted {
    Classes(Confusion),
    MultiLabel(MultiLabel),
    Numbers(Regression),
}

/// Scores on labelled examples.
#[derive(Debug)]
pub struct LabelScores {
    counted: Counted,
    /// Mean loss, over texts and, where a text has any number of them, classes; in nats or as a squared error.
    loss: f64,
}

impl LabelScores {
    pub fn scores(&self) -> Value {
        let mut scores = match &self.counted {
            Counted::Classes(c) => json!({
                "accuracy": c.accuracy(), "macro_f1": c.macro_f1(), "micro_f1": c.micro_f1(), "mcc": c.mcc(),
            }),
            Counted::MultiLabel(c) => json!({
                "accuracy": c.accuracy(), "macro_f1": c.macro_f1(), "micro_f1": c.micro_f1(),
            }),
            Counted::Numbers(c) => json!({
                "mse": c.mse(), "mae": c.mae(), "r2": c.r2(), "pearson": c.pearson(), "spearman": c.spearman(),
            }),
        };
        scores["loss"] = json!(self.loss);
        scores
    }

    /// 95 % intervals over texts: Wilson's of the accuracy, the bootstrap's of F1.
    fn intervals(&self) -> Option<Value> {
        let of_accuracy = |(right, texts)| {
            let (low, high) = wilson(right, texts, Z975);
            json!([low, high])
        };
        match &self.counted {
            Counted::Classes(c) => {
                let (low, high) = c.macro_f1_interval();
                let accuracy = of_accuracy((c.right(), c.total()));
                Some(json!({"accuracy": accuracy, "macro_f1": [low, high]}))
            }
            Counted::MultiLabel(c) => {
                let [micro, macro_f1] = c.f1_intervals().map(|(low, high)| json!([low, high]));
                let accuracy = of_accuracy(c.right());
                Some(json!({"accuracy": accuracy, "macro_f1": macro_f1, "micro_f1": micro}))
            }
            Counted::Numbers(_) => None,
        }
    }

    /// How it shows that a classifier tells nothing apart, in words.
    pub fn degenerate(&self, names: &[String]) -> Option<String> {
        match &self.counted {
            Counted::Classes(confusion) => confusion.degenerate(names),
            Counted::MultiLabel(counts) => counts.degenerate(names),
            Counted::Numbers(pairs) => pairs.degenerate(),
        }
    }

    /// What a score line says of `rows`, with these names of the classes.
    pub fn fields(&self, rows: &Labelled, names: &[String]) -> Map<String, Value> {
        let (texts, windows) = (rows.texts().len(), rows.shard.len());
        let (per_class, confusion) = match &self.counted {
            Counted::Classes(c) => (Some(json!(c.per_class(names))), Some(c.to_json(names))),
            Counted::MultiLabel(c) => (Some(json!(c.per_class(names))), None),
            Counted::Numbers(_) => (None, None),
        };
        [
            ("problem", Some(json!(rows.problem.name())).filter(|_| confusion.is_none())),
            ("examples", Some(json!(texts))),
            ("windows", Some(json!(windows)).filter(|_| windows > texts)),
            ("scores", Some(self.scores())),
            ("intervals", self.intervals()),
            ("per_class", per_class),
            ("confusion", confusion),
            ("degenerate", self.degenerate(names).map(Value::from)),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }

    fn new(problem: Problem, classes: usize) -> Self {
        let counted = match problem {
            Problem::Classes => Counted::Classes(Confusion::new(classes)),
            Problem::MultiLabel => Counted::MultiLabel(MultiLabel::new(classes)),
            Problem::Regression => Counted::Numbers(Regression::default()),
        };
        Self { counted, loss: 0.0 }
    }

    /// Takes in a text, of which `said` is said (see `classify`) and `answer` follows.
    fn add(&mut self, rows: &Labelled, text: usize, said: &[f64], answer: &[f32]) {
        match &mut self.counted {
            Counted::Classes(confusion) => {
                let gold = rows.class(text);
                self.loss -= said[gold];
                confusion.add(gold, best(answer));
            }
            Counted::MultiLabel(counts) => {
                let (gold, (yes, no)) = (rows.numbers(text), said.split_at(answer.len()));
                let losses = gold.iter().zip(yes.iter().zip(no));
                let losses = losses.map(|(&is, (yes, no))| if is > 0.0 { -yes } else { -no });
                self.loss += losses.sum::<f64>() / answer.len().max(1) as f64;
                counts.add(gold.iter().zip(answer).map(|(&is, &p)| (is > 0.0, p >= THRESHOLD)));
            }
            Counted::Numbers(pairs) => {
                let gold = f64::from(rows.numbers(text)[0]);
                self.loss += (gold - said[0]).powi(2);
                pairs.add(gold, said[0]);
            }
        }
    }
}

/// Scores of a masked language model on fixed masks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MaskedScores {
    /// Masked tokens that were scored.
    pub masked: u64,
    nats: f64,
    correct: u64,
    /// Masked tokens of each draw of each epoch, and their loss in all.
    draws: BTreeMap<(u64, u64), (u64, f64)>,
}

impl MaskedScores {
    /// Mean loss of a masked token.
    pub fn nats(&self) -> f64 {
        self.nats / self.masked.max(1) as f64
    }

    pub fn scores(&self) -> Value {
        let (nats, count) = (self.nats(), self.masked.max(1) as f64);
        json!({"nats": nats, "perplexity": nats.exp(), "accuracy": self.correct as f64 / count})
    }

    /// Of texts that were masked several times, how much the mean loss differs between the draws; none of one draw.
    pub fn draws(&self) -> Option<Value> {
        let draws = self.draws.values().filter(|(masked, _)| *masked > 0);
        let nats: Vec<f64> = draws.map(|(masked, nats)| nats / *masked as f64).collect();
        let (mean, sd, interval) = mean_interval(&nats);
        let (low, high) = interval?;
        Some(json!({
            "count": nats.len(), "nats": nats, "mean": mean, "sd": sd, "interval": [low, high],
            "perplexity": [low.exp(), high.exp()],
        }))
    }

    fn add(&mut self, draw: (u64, u64), (masked, nats, correct): (u64, f64, u64)) {
        let own = self.draws.entry(draw).or_default();
        *own = (own.0 + masked, own.1 + nats);
        self.masked += masked;
        self.nats += nats;
        self.correct += correct;
    }
}

/// Calls `each` with groups of rows and their micro-batch.
pub fn sweep(
    items: &dyn Fn(usize) -> Item,
    lengths: &[usize],
    place: Place,
    each: &mut dyn FnMut(&[usize], &Micro) -> Result<()>,
) -> Result<()> {
    let budget = if place.device == Device::Cpu { CPU_BUDGET } else { BUDGET };
    for group in micro_batches(lengths, budget) {
        let chosen: Vec<Item> = group.iter().map(|&i| items(i)).collect();
        let micro = Micro::new(&chosen, place);
        no_grad(|| each(&group, &micro))?;
    }
    Ok(())
}

/// Numbers of texts that are scored together, from first to last; `texts` says which sequences each is in, `each` how
/// many numbers are kept of one.
fn stretches(
    shard: &Shard,
    texts: impl Iterator<Item = Range<usize>>,
    each: usize,
) -> Vec<Range<usize>> {
    let most = SEQUENCES.min(NUMBERS / each.max(1)).max(1);
    let mut all: Vec<Range<usize>> = Vec::new();
    let (mut sequences, mut tokens) = (0, 0);
    for (text, of) in texts.enumerate() {
        let own = (of.len(), lengths(shard, of).iter().sum::<usize>());
        (sequences, tokens) = (sequences + own.0, tokens + own.1);
        match all.last_mut() {
            Some(last) if sequences <= most && tokens <= TOKENS => last.end = text + 1,
            _ => {
                all.push(text..text + 1);
                (sequences, tokens) = own;
            }
        }
    }
    all
}

/// Tokens of each of some sequences.
fn lengths(shard: &Shard, of: Range<usize>) -> Vec<usize> {
    of.map(|i| shard.view(i).tokens.len()).collect()
}

/// Who hears of texts as they are scored.
pub trait Hearing {
    /// A text's number, what `classify` gives of it, and what `answer` makes of that; in no fixed order.
    fn said(&mut self, _text: usize, _said: &[f64], _answer: &[f32]) {}

    /// A text's number and its probabilities, or its number; in order.
    fn answered(&mut self, _text: usize, _answer: &[f32]) -> Result<()> {
        Ok(())
    }
}

/// Nobody does.
impl Hearing for () {}

/// Scores `model` on labelled texts, of which `hearing` hears.
pub fn labelled(
    model: &SequenceClassifier,
    rows: &Labelled,
    place: Place,
    hearing: &mut dyn Hearing,
) -> Result<LabelScores> {
    let (problem, texts) = (rows.problem, rows.texts());
    let mut scores = LabelScores::new(problem, rows.classes());
    for stretch in stretches(rows.shard, texts.iter().cloned(), rows.classes()) {
        let own = &texts[stretch.clone()];
        let (first, end) = (own[0].start, own[own.len() - 1].end);
        let ids = |i: usize| rows.example(first + i).ids;
        let own: Vec<_> = own.iter().map(|text| text.start - first..text.end - first).collect();
        let mut answers = vec![Vec::new(); own.len()];
        let lengths = lengths(rows.shard, first..end);
        classify((model, problem), &ids, &lengths, &own, place, &mut |text, said| {
            let answer = answer(&said, problem);
            scores.add(rows, stretch.start + text, &said, &answer);
            hearing.said(stretch.start + text, &said, &answer);
            answers[text] = answer;
        })?;
        stretch.zip(answers).try_for_each(|(text, answer)| hearing.answered(text, &answer))?;
    }
    scores.loss /= texts.len().max(1) as f64;
    Ok(scores)
}

/// Scores `model` on a masked shard; `done` is told of each so many sequences.
pub fn masked(
    model: &MaskedLm,
    shard: &Shard,
    place: Place,
    done: &mut dyn FnMut(usize),
) -> Result<MaskedScores> {
    ensure!(shard.is_masked(), "it is not masked");
    let mut scores = MaskedScores::default();
    for (draw, own) in shard.draws() {
        for stretch in stretches(shard, own.clone().map(|i| i..i + 1), 1) {
            let (first, end) = (own.start + stretch.start, own.start + stretch.end);
            let item = |i| masked_item(&shard.view(first + i));
            sweep(&item, &lengths(shard, first..end), place, &mut |group, micro| {
                let logits = model.logits(&micro.batch, &micro.masked, false);
                let nats = cross_entropy(&logits, &micro.targets).double_value(&[]);
                let right = logits.argmax(-1, false).eq_tensor(&micro.targets).sum(Kind::Int64);
                let right = right.int64_value(&[]) as u64;
                scores.add(draw, (micro.targets.numel() as u64, nats, right));
                done(group.len());
                Ok(())
            })?;
        }
    }
    ensure!(scores.masked > 0, "no token of it is masked: there is nothing to score");
    Ok(scores)
}
