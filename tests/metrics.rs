//! Scores of random predictions, many of them equal, are those of scikit-learn and SciPy.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use plain::metrics::{
    average_precision, calibration_error, reliability, roc_auc, roc_auc_macro, top_k_accuracy,
    wilson,
};
use serde_json::Value;

/// As `z` of a 95 % interval: the 0.975 quantile of the normal distribution.
const Z: f64 = 1.959963984540054;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn close(name: &str, ours: Option<f64>, theirs: &Value, case: &Value) {
    let same = match (ours, theirs.as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-12,
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    };
    assert!(same, "{name}: {ours:?}, not {theirs}, of {case}");
}

fn of_two(case: &Value) {
    let gold = numbers(&case["gold"]).into_iter().map(|gold| gold > 0.0);
    let texts: Vec<_> = numbers(&case["scores"]).into_iter().zip(gold).collect();
    close("roc_auc", roc_auc(&texts), &case["roc_auc"], case);
    close("average_precision", average_precision(&texts), &case["average_precision"], case);
    let error = calibration_error(&reliability(&texts, 10));
    close("calibration_error", Some(error), &case["calibration_error"], case);
    let right = texts.iter().filter(|(_, is)| *is).count() as u64;
    let (low, high) = wilson(right, texts.len() as u64, Z);
    close("wilson", Some(low), &case["wilson"][0], case);
    close("wilson", Some(high), &case["wilson"][1], case);
}

fn of_several(case: &Value) {
    let scores = case["scores"].as_array().unwrap().iter().map(numbers);
    let gold = numbers(&case["gold"]).into_iter().map(|gold| gold as usize);
    let texts: Vec<_> = scores.zip(gold).collect();
    close("roc_auc", roc_auc_macro(&texts), &case["roc_auc"], case);
    for (theirs, k) in case["top"].as_array().unwrap().iter().zip(1..) {
        close("top_k_accuracy", Some(top_k_accuracy(&texts, k)), theirs, case);
    }
}

#[test]
fn scores_are_those_of_scikit_learn() {
    let Some(python) = common::python() else { return };
    let script = common::root().join("tests/parity/metrics.py");
    let output = Command::new(python).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", common::both(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let cases: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 400);
    for case in &cases {
        if case["top"].is_null() { of_two(case) } else { of_several(case) }
    }
}
