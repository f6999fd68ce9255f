//! Scores of random predictions, many of them equal, are those of scikit-learn and SciPy; so is what `evaluate` writes.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use nalgebra::DMatrix;
use plain::baseline::NaiveBayes;
use plain::layers::{
    Probe, Strictness, centre, cka, cross_validated, product, silhouette, with_ones,
};
use plain::metrics::{
    Confusion, Ranking, Reliability, at_temperature, average_precision, is_among_top, mcnemar,
    mean_interval, one_against_rest, roc_auc, temperature, wilson,
};
use plain::shard::{Header, Segments, Sequence, Shard, Special, Writer};
use serde_json::{Value, json};

/// As `z` of a 95 % interval: the 0.975 quantile of the normal distribution.
const Z: f64 = 1.959963984540054;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap_or(f64::NAN)).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn classes(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|class| class as usize).collect()
}

fn near(name: &str, ours: Option<f64>, theirs: &Value, within: f64, case: &Value) {
    let same = match (ours, theirs.as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() < within,
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    };
    assert!(same, "{name}: {ours:?}, not {theirs}, of {case}");
}

fn close(name: &str, ours: Option<f64>, theirs: &Value, case: &Value) {
    near(name, ours, theirs, 1e-12, case);
}

fn of_two(case: &Value) {
    let gold = numbers(&case["gold"]).into_iter().map(|gold| gold > 0.0);
    let texts: Vec<_> = numbers(&case["scores"]).into_iter().zip(gold).collect();
    close("roc_auc", roc_auc(&texts), &case["roc_auc"], case);
    close("average_precision", average_precision(&texts), &case["average_precision"], case);
    let mut reliability = Reliability::new(10);
    texts.iter().for_each(|(said, is)| reliability.add(*said, *is));
    close("calibration_error", Some(reliability.error()), &case["calibration_error"], case);
    let right = texts.iter().filter(|(_, is)| *is).count() as u64;
    let (low, high) = wilson(right, texts.len() as u64, Z);
    close("wilson", Some(low), &case["wilson"][0], case);
    close("wilson", Some(high), &case["wilson"][1], case);
}

fn both_areas(ours: Ranking, case: &Value) {
    close("roc_auc", ours.auc, &case["roc_auc"], case);
    close("average_precision", ours.average_precision, &case["average_precision"], case);
}

fn of_several(case: &Value) {
    let (scores, gold) = (rows(&case["scores"]), classes(&case["gold"]));
    let narrow: Vec<f32> = scores.concat().into_iter().map(|score| score as f32).collect();
    let own = scores[0].len();
    both_areas(one_against_rest(&narrow, own, |text, class| gold[text] == class), case);
    let theirs = case["top"].as_array().unwrap();
    for (theirs, k) in theirs.iter().zip(1..) {
        let texts = narrow.chunks_exact(own).zip(&gold);
        let right = texts.filter(|(scores, gold)| is_among_top(scores, **gold, k)).count();
        close("top_k", Some(right as f64 / gold.len() as f64), theirs, case);
    }
}

fn of_labels(case: &Value) {
    let (scores, gold) = (rows(&case["scores"]), rows(&case["gold"]));
    let narrow: Vec<f32> = scores.concat().into_iter().map(|score| score as f32).collect();
    let is = |text: usize, class: usize| gold[text][class] > 0.0;
    both_areas(one_against_rest(&narrow, scores[0].len(), is), case);
}

fn of_tests(case: &Value) {
    let only = numbers(&case["only"]);
    let p = mcnemar(only[0] as u64, only[1] as u64);
    let theirs = case["mcnemar"].as_f64().unwrap();
    // Of thousands it may be below what a number can be.
    let same = (p - theirs).abs() <= 1e-9 * theirs + 1e-300;
    assert!(same, "mcnemar: {p}, not {theirs}, of {case}");
    let (_, sd, interval) = mean_interval(&numbers(&case["numbers"]));
    close("sd", sd, &case["sd"], case);
    let (low, high) = interval.unwrap();
    near("interval", Some(low), &case["interval"][0], 1e-9, case);
    near("interval", Some(high), &case["interval"][1], 1e-9, case);
}

fn of_temperature(case: &Value) {
    let (logs, own) = (numbers(&case["logs"]), case["classes"].as_u64().unwrap() as usize);
    let gold = classes(&case["gold"]);
    let narrow: Vec<f32> = logs.iter().map(|log| *log as f32).collect();
    let short: Vec<u32> = gold.iter().map(|class| *class as u32).collect();
    let found = temperature(&narrow, own, &short).unwrap();
    let theirs = case["temperature"].as_f64().unwrap();
    assert!((found / theirs - 1.0).abs() < 1e-6, "temperature: {found}, not {theirs}");
    let texts = logs.chunks_exact(own).zip(&gold);
    let loss: f64 = texts.map(|(logs, gold)| -at_temperature(logs, found)[*gold]).sum();
    near("loss", Some(loss / gold.len() as f64), &case["loss"], 1e-10, case);
}

/// Ends of intervals from other samples differ by some hundredths of the width, and by what one text more or less makes.
fn of_bootstrap(case: &Value) {
    let mut confusion = Confusion::new(case["classes"].as_u64().unwrap() as usize);
    let (gold, pred) = (classes(&case["gold"]), classes(&case["pred"]));
    gold.iter().zip(&pred).for_each(|(gold, pred)| confusion.add(*gold, *pred));
    let (low, high) = confusion.macro_f1_interval();
    let within = (high - low) * 0.07 + 1.0 / gold.len() as f64;
    near("low", Some(low), &case["interval"][0], within, case);
    near("high", Some(high), &case["interval"][1], within, case);
}

/// A shard of these tokens, of which 0 is special.
fn shard(texts: &Value) -> Shard {
    let special = Special { cls: 0, sep: 0, mask: None, pad: 0, unk: None, all: vec![0] };
    let header = Header {
        tokenizer: "a".repeat(64),
        vocab_size: 25,
        special,
        max_length: 64,
        stride: None,
        join: false,
        source: json!({}),
        command: String::new(),
    };
    let mut writer = Writer::new(Vec::new(), header);
    for (row, tokens) in rows(texts).into_iter().enumerate() {
        let tokens: Vec<u32> = tokens.into_iter().map(|token| token as u32).collect();
        let (row, words) = (row as u64, vec![true; tokens.len()]);
        writer.push(Sequence { tokens, words, row, ..Default::default() }).unwrap();
    }
    let bytes = Cursor::new(writer.finish().unwrap());
    Shard::read([Segments::stream("test", Box::new(bytes))]).unwrap()
}

fn of_bayes(case: &Value) {
    let (train, test) = (shard(&case["train"]), shard(&case["test"]));
    let (gold, own) = (classes(&case["gold"]), case["classes"].as_u64().unwrap() as usize);
    let bayes = NaiveBayes::new(&train, &train.windows(), &gold, own);
    let known = classes(&case["known"]);
    for (text, theirs) in test.windows().iter().zip(case["scores"].as_array().unwrap()) {
        let ours = bayes.scores(&test, text);
        let found = ours.iter().filter(|score| score.is_finite()).count();
        assert_eq!(found, known.len(), "{case}");
        for (class, theirs) in known.iter().zip(theirs.as_array().unwrap()) {
            near("bayes", Some(ours[*class]), theirs, 1e-5, case);
        }
    }
}

fn centred(case: &Value) -> DMatrix<f64> {
    let rows = rows(case);
    let mut points = DMatrix::from_row_slice(rows.len(), rows[0].len(), &rows.concat());
    centre(&mut points);
    points
}

fn of_layers(case: &Value) {
    let (points, others, gold) =
        (centred(&case["points"]), centred(&case["others"]), classes(&case["gold"]));
    let alike =
        cka(product(&points, &others), product(&points, &points), product(&others, &others));
    near("cka", alike, &case["cka"], 1e-9, case);
    near("silhouette", silhouette(&points, &gold), &case["silhouette"], 1e-6, case);
    let points = with_ones(points);
    let standardize = case["standardize"].as_bool().unwrap();
    let how = Strictness { c: case["c"].as_f64().unwrap(), standardize };
    if let Some(theirs) = case["shares"].as_array() {
        let known: Vec<Option<usize>> = gold.iter().copied().map(Some).collect();
        let probe = Probe::fit(&points, &known, how).unwrap();
        for (logits, theirs) in probe.logits(&points).row_iter().zip(theirs) {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            assert_eq!(logits.len(), theirs.as_array().unwrap().len());
            for (logit, theirs) in logits.iter().zip(theirs.as_array().unwrap()) {
                near("probe", Some(logit.exp() / sum), theirs, 1e-6, case);
            }
        }
    }
    if let Some(right) = case["right"].as_u64() {
        let found = cross_validated(&points, &gold, &classes(&case["folds"]), how).unwrap();
        assert_eq!(found as u64, right, "right in folds: {case}");
    }
}

fn python(script: &str, args: &[&Path]) -> Option<String> {
    let script = common::root().join("tests/parity").join(script);
    let output = Command::new(common::python()?).arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", common::both(&output));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn scores_are_those_of_scikit_learn() {
    let Some(lines) = python("metrics.py", &[]) else { return };
    let cases: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 1124);
    for case in &cases {
        match case["kind"].as_str().unwrap() {
            "two" => of_two(case),
            "several" => of_several(case),
            "labels" => of_labels(case),
            "tests" => of_tests(case),
            "temperature" => of_temperature(case),
            "bootstrap" => of_bootstrap(case),
            "bayes" => of_bayes(case),
            "layers" => of_layers(case),
            other => panic!("{other}"),
        }
    }
}

/// What `evaluate` writes follows from the predictions it writes and from the shards.
#[test]
fn score_lines_are_those_of_scikit_learn() {
    if common::python().is_none() {
        return;
    }
    let dir = common::sample();
    common::run(
        dir.path(),
        "pretrain --from-scratch config.json --tokenizer tok train.tok --steps 2 -q --device cpu -o mlm
         finetune --model mlm --train train.tok --steps 60 --lr 5e-3 --seed 3 -q --device cpu -o model
         evaluate model validation.tok -p validation.jsonl -q --device cpu > /dev/null
         evaluate model test.tok -p test.jsonl --train train.tok --temperature-from validation.tok -q --device cpu > score.json",
    );
    python("score.py", &[dir.path()]);
}
