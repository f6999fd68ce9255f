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
    ClassScore, Confusion, LabelProbabilities, MultiLabel, Probabilities, Ranking, Regression,
    Reliability, at_temperature, average_precision, is_among_top, mcnemar, mean_interval,
    one_against_rest, roc_auc, temperature, wilson,
};
use plain::predictions::Pair;
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

fn named(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

/// Precision, recall, F1 and support of each class.
fn of_each(ours: &[ClassScore], case: &Value) {
    let theirs = case["per_class"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        let own = [ours.precision, ours.recall, ours.f1, ours.support as f64];
        own.iter().zip(0..).for_each(|(own, at): (_, usize)| {
            close("per_class", Some(*own), &theirs[at], case);
        });
    }
}

fn of_confusion(case: &Value) {
    let names = named(case["classes"].as_u64().unwrap() as usize);
    let mut confusion = Confusion::new(names.len());
    let (gold, pred) = (classes(&case["gold"]), classes(&case["pred"]));
    gold.iter().zip(&pred).for_each(|(gold, pred)| confusion.add(*gold, *pred));
    close("accuracy", Some(confusion.accuracy()), &case["accuracy"], case);
    close("micro_f1", Some(confusion.micro_f1()), &case["micro_f1"], case);
    close("macro_f1", Some(confusion.macro_f1()), &case["macro_f1"], case);
    close("mcc", Some(confusion.mcc()), &case["mcc"], case);
    of_each(&confusion.per_class(&names), case);
    let cells = rows(&case["cells"]);
    for cell in &cells {
        assert_eq!(confusion.count(cell[0] as usize, cell[1] as usize), cell[2] as u64);
    }
    let all: f64 = cells.iter().map(|cell| cell[2]).sum();
    assert_eq!((confusion.total(), all), (gold.len() as u64, gold.len() as f64));
}

/// The label sets of a case.
fn counted(case: &Value) -> MultiLabel {
    let (gold, pred) = (rows(&case["gold"]), rows(&case["pred"]));
    let mut sets = MultiLabel::new(gold[0].len());
    for (gold, pred) in gold.iter().zip(&pred) {
        sets.add(gold.iter().zip(pred).map(|(gold, pred)| (*gold > 0.0, *pred > 0.0)));
    }
    sets
}

fn of_sets(case: &Value) {
    let sets = counted(case);
    close("accuracy", Some(sets.accuracy()), &case["accuracy"], case);
    close("micro_f1", Some(sets.micro_f1()), &case["micro_f1"], case);
    close("macro_f1", Some(sets.macro_f1()), &case["macro_f1"], case);
    of_each(&sets.per_class(&named(rows(&case["gold"])[0].len())), case);
    for (low, high) in sets.f1_intervals() {
        assert!((0.0..=high).contains(&low) && high <= 1.0, "{low} {high} of {case}");
    }
}

/// Ends as of the bootstrap of one class a text.
fn of_set_bootstrap(case: &Value) {
    let texts = case["gold"].as_array().unwrap().len() as f64;
    for ((low, high), of) in counted(case).f1_intervals().into_iter().zip(["micro", "macro"]) {
        let within = (high - low) * 0.07 + 1.0 / texts;
        near(of, Some(low), &case[of][0], within, case);
        near(of, Some(high), &case[of][1], within, case);
    }
}

fn of_numbers(case: &Value) {
    let mut all = Regression::default();
    let (gold, pred) = (numbers(&case["gold"]), numbers(&case["pred"]));
    gold.iter().zip(&pred).for_each(|(gold, pred)| all.add(*gold, *pred));
    let is_number = |number: f64| Some(number).filter(|number| !number.is_nan());
    close("mse", is_number(all.mse()), &case["mse"], case);
    close("mae", is_number(all.mae()), &case["mae"], case);
    near("r2", all.r2().and_then(is_number), &case["r2"], 1e-9, case);
    close("pearson", all.pearson(), &case["pearson"], case);
    close("spearman", all.spearman(), &case["spearman"], case);
}

/// What a line has of calibration, at both temperatures.
fn of_calibration(found: &Value, case: &Value) {
    let theirs = [&case["error"], &case["scaled"], &case["loss"]];
    let ours = ["/error", "/scaled/error", "/scaled/loss"];
    for (path, theirs) in ours.into_iter().zip(theirs) {
        let ours = found.pointer(path).unwrap().as_f64();
        near(path, ours, theirs, 1e-6, case);
    }
    assert_eq!(found["temperature"], case["temperature"]);
}

fn of_line(case: &Value) {
    let (probs, gold) = (rows(&case["probs"]), classes(&case["gold"]));
    let mut all = Probabilities::new(probs[0].len(), gold.len(), case["temperature"].as_f64());
    for (probs, gold) in probs.iter().zip(&gold) {
        let logs: Vec<f64> = probs.iter().map(|prob| prob.ln()).collect();
        let narrow: Vec<f32> = probs.iter().map(|prob| *prob as f32).collect();
        let best =
            (0..probs.len()).fold(0, |best, i| if probs[i] > probs[best] { i } else { best });
        all.add(&logs, &narrow, (best, *gold));
    }
    let found = all.fields();
    of_calibration(&found["calibration"], case);
    let is_number = probs[0][0].is_finite();
    assert!(is_number || found["auc"].is_null() && found["average_precision"].is_null(), "{case}");
    for (k, theirs) in case["top"].as_object().unwrap() {
        close("top_k", found["top_k"][k].as_f64(), theirs, case);
    }
}

fn of_label_line(case: &Value) {
    let (probs, gold) = (rows(&case["probs"]), rows(&case["gold"]));
    let temperature = case["temperature"].as_f64();
    let mut all = LabelProbabilities::new(probs[0].len(), gold.len(), temperature);
    for (probs, gold) in probs.iter().zip(&gold) {
        let yes = probs.iter().map(|prob| prob.ln());
        let logs: Vec<f64> = yes.chain(probs.iter().map(|prob| (-prob).ln_1p())).collect();
        let narrow: Vec<f32> = probs.iter().map(|prob| *prob as f32).collect();
        all.add(&logs, &narrow, gold.iter().map(|gold| *gold > 0.0));
    }
    of_calibration(&all.fields()["calibration"], case);
}

fn of_pair(case: &Value) {
    let dir = tempfile::tempdir().unwrap();
    let gold = classes(&case["gold"]);
    let files = ["a", "b"].map(|model| {
        let said = classes(&case[model]).into_iter().zip(&gold).zip(0..);
        let line = |((pred, gold), row): ((usize, &usize), u64)| {
            let (gold, pred) = (gold.to_string(), pred.to_string());
            json!({"row": row, "gold": gold, "pred": pred, "probs": {}}).to_string() + "\n"
        };
        let path = dir.path().join(model);
        std::fs::write(&path, said.map(line).collect::<String>()).unwrap();
        path
    });
    let found = Pair::open(&files[0], &files[1]).unwrap().to_json();
    assert_eq!(json!([found["right"]["only_a"], found["right"]["only_b"]]), case["only"]);
    near("mcnemar", found["mcnemar"]["p"].as_f64(), &case["mcnemar"], 1e-9, case);
    for score in ["accuracy", "macro_f1"] {
        let both = ["a", "b"].map(|model| found[score][model].as_f64().unwrap());
        both.iter().zip(0..).for_each(|(ours, at): (_, usize)| {
            close(score, Some(*ours), &case[score][at], case);
        });
        let ends = numbers(&found[score]["interval"]);
        assert!(ends[0] <= ends[1] && ends[0] >= -1.0 && ends[1] <= 1.0, "{found}");
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
    assert_eq!(cases.len(), 2328);
    for case in &cases {
        match case["kind"].as_str().unwrap() {
            "two" => of_two(case),
            "several" => of_several(case),
            "labels" => of_labels(case),
            "tests" => of_tests(case),
            "temperature" => of_temperature(case),
            "bootstrap" => of_bootstrap(case),
            "bayes" => of_bayes(case),
            "confusion" => of_confusion(case),
            "sets" => of_sets(case),
            "label_bootstrap" => of_set_bootstrap(case),
            "numbers" => of_numbers(case),
            "line" => of_line(case),
            "label_line" => of_label_line(case),
            "pair" => of_pair(case),
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
    // The same texts with any number of labels, which their first letters and lengths tell, and with a number.
    let tagged = r#"{ n = length($0) % 7; sub(/"label":"[^"]*"/, "\"tags\":[" (n < 3 ? "\"a\"" : "") (n == 2 || n == 5 ? (n < 3 ? "," : "") "\"b\"" : "") "],\"number\":" length($0) / 100); print }"#;
    std::fs::write(dir.path().join("tagged.awk"), tagged).unwrap();
    common::run(
        dir.path(),
        "for split in train validation test; do
           prep sample --split $split --limit 300 --jsonl | awk -f tagged.awk > $split.rows.jsonl
           prep $split.rows.jsonl --label tags --multi-label --tokenizer tok -q -o tags-$split.tok
           prep $split.rows.jsonl --label number --regression --tokenizer tok -q -o number-$split.tok
         done
         for task in tags number; do
           mkdir $task
           finetune --model mlm --train $task-train.tok --steps 60 --lr 5e-3 --seed 3 -q --device cpu -o $task/model
         done
         evaluate tags/model tags-validation.tok -p tags/validation.jsonl -q --device cpu > /dev/null
         evaluate tags/model tags-test.tok -p tags/test.jsonl --train tags-train.tok --temperature-from tags-validation.tok -q --device cpu > tags/score.json
         evaluate number/model number-test.tok -p number/test.jsonl --train number-train.tok -q --device cpu > number/score.json
         cp train.rows.jsonl tags/train.jsonl; cp train.rows.jsonl number/train.jsonl",
    );
    python("score_labels.py", &[&dir.path().join("tags")]);
    python("score_numbers.py", &[&dir.path().join("number")]);
}
