//! What a model must beat: the scores of what does not look at the text, and of naive Bayes over its tokens.

use std::ops::Range;

use serde_json::{Value, json};

use crate::baseline::NaiveBayes;
use crate::metrics::{Confusion, MultiLabel, Regression};
use crate::shard::Problem;
use crate::train::Labelled;

/// The scores on `rows` of baselines, by name: `majority` and where there are texts to learn from `naive_bayes`; of several
/// labels a text `majority` and `every_label`; of numbers `mean`. Without texts to learn from, `rows` say what is frequent.
pub fn baselines(rows: &Labelled, learnt: Option<&Labelled>) -> Value {
    match rows.problem {
        Problem::Classes => of_classes(rows, learnt),
        Problem::MultiLabel => of_labels(rows, learnt.unwrap_or(rows)),
        Problem::Regression => of_numbers(rows, learnt.unwrap_or(rows)),
    }
}

fn of_classes(rows: &Labelled, learnt: Option<&Labelled>) -> Value {
    let of = |rows: &Labelled| -> Vec<usize> {
        (0..rows.texts().len()).map(|i| rows.class(i)).collect()
    };
    let gold = of(rows);
    let scores = |pred: &dyn Fn(usize) -> usize| {
        let mut confusion = Confusion::new(rows.classes());
        gold.iter().enumerate().for_each(|(text, &class)| confusion.add(class, pred(text)));
        json!({"accuracy": confusion.accuracy(), "macro_f1": confusion.macro_f1()})
    };
    let counted = learnt.map_or_else(|| gold.clone(), of);
    let mut counts = vec![0u64; rows.classes()];
    counted.iter().for_each(|&class| counts[class] += 1);
    let most = (0..counts.len()).fold(0, |best, i| if counts[i] > counts[best] { i } else { best });
    let mut all = json!({"majority": scores(&|_| most)});
    if let Some(learnt) = learnt {
        let texts: &[Range<usize>] = learnt.texts();
        let bayes = NaiveBayes::new(learnt.shard, texts, &counted, rows.classes());
        let pred = bayes.classify(rows.shard, rows.texts());
        all["naive_bayes"] = scores(&|text| pred[text]);
    }
    all
}

/// Of every text the classes that more than half of the texts have: scikit-learn's `DummyClassifier`. Few labels are that
/// frequent, and F1 is then 0; the largest F1 without a look at the text may be that of naming every label (Lipton et al.
/// 2014).
fn of_labels(rows: &Labelled, counted: &Labelled) -> Value {
    let texts = counted.texts().len();
    let mut counts = vec![0; rows.classes()];
    for text in 0..texts {
        let gold = counted.numbers(text);
        counts.iter_mut().zip(gold).for_each(|(count, is)| *count += usize::from(is > 0.0));
    }
    let mut found = [MultiLabel::new(rows.classes()), MultiLabel::new(rows.classes())];
    for text in 0..rows.texts().len() {
        let gold = rows.numbers(text);
        let pairs = |is: &dyn Fn(usize) -> bool| -> Vec<(bool, bool)> {
            gold.iter().enumerate().map(|(class, gold)| (*gold > 0.0, is(class))).collect()
        };
        found[0].add(pairs(&|class| 2 * counts[class] > texts));
        found[1].add(pairs(&|_| true));
    }
    let [majority, every] = found.map(|found| {
        json!({"accuracy": found.accuracy(), "macro_f1": found.macro_f1(), "micro_f1": found.micro_f1()})
    });
    json!({"majority": majority, "every_label": every})
}

/// Of every text the mean number; correlations of it are not defined.
fn of_numbers(rows: &Labelled, counted: &Labelled) -> Value {
    let number = |rows: &Labelled, text| f64::from(rows.numbers(text)[0]);
    let texts = counted.texts().len();
    let mean = (0..texts).map(|text| number(counted, text)).sum::<f64>() / texts as f64;
    let mut found = Regression::default();
    (0..rows.texts().len()).for_each(|text| found.add(number(rows, text), mean));
    json!({"mean": {"mse": found.mse(), "mae": found.mae(), "r2": found.r2()}})
}
