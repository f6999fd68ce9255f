"""Computes again what a score line says of a model of several labels, with scikit-learn and SciPy.

The argument is a directory with score.json, test.jsonl, validation.jsonl (predictions) and train.jsonl (rows).
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import (accuracy_score, average_precision_score, f1_score, log_loss, precision_recall_fscore_support,
                             roc_auc_score)

BINS = 15


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(lists, names):
    return np.array([[name in some for name in names] for some in lists]).astype(int)


def error(probs, gold):
    said, is_so = probs.ravel(), gold.ravel()
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], said)
    return sum(abs(said[bins == b].sum() - is_so[bins == b].sum()) for b in range(BINS)) / len(said)


def loss(probs, gold):
    said = probs.ravel()
    return log_loss(gold.ravel(), np.stack([1 - said, said], 1), labels=[0, 1])


def check(name, ours, theirs, within=1e-9):
    assert abs(ours - theirs) <= within, f"{name}: {ours}, not {theirs}"


def main():
    folder = Path(sys.argv[1])
    line = json.loads((folder / "score.json").read_text())
    lines = rows(folder / "test.jsonl")
    names = list(lines[0]["probs"])
    gold, pred = (table([one[key] for one in lines], names) for key in ("gold", "pred"))
    probs = np.array([list(one["probs"].values()) for one in lines])
    assert ((probs >= 0.5) == pred).all()
    assert len(np.unique(pred, axis=0)) > 1, "the model says one thing of all: nothing is tested"
    f1 = lambda gold, pred, average: f1_score(gold, pred, average=average, zero_division=0)

    def check_scores(name, ours, guess):
        check(name, ours["accuracy"], accuracy_score(gold, guess))
        check(name, ours["micro_f1"], f1(gold, guess, "micro"))
        check(name, ours["macro_f1"], f1(gold, guess, "macro"))

    check_scores("scores", line["scores"], pred)
    check("loss", line["scores"]["loss"], loss(probs, gold), 1e-6)
    told = np.stack(precision_recall_fscore_support(gold, pred, zero_division=0), 1)
    for ours, theirs, name in zip(line["per_class"], told, names):
        assert ours["label"] == name
        for key, their in zip(["precision", "recall", "f1", "support"], theirs):
            check(f"{key} of {name}", ours[key], their)
    wilson = binomtest(int((pred == gold).all(1).sum()), len(gold)).proportion_ci(0.95, method="wilson")
    for ours, theirs in zip(line["intervals"]["accuracy"], wilson):
        check("wilson", ours, theirs)
    for score in ["micro_f1", "macro_f1"]:
        low, high = line["intervals"][score]
        assert low < line["scores"][score] < high
    check("auc", line["auc"], roc_auc_score(gold, probs, average="macro"))
    check("average_precision", line["average_precision"], average_precision_score(gold, probs, average="macro"))
    check("error", line["calibration"]["error"], error(probs, gold), 1e-6)
    assert sum(one["count"] for one in line["calibration"]["bins"]) == gold.size

    chosen = rows(folder / "validation.jsonl")
    own, odds = table([one["gold"] for one in chosen], names), logit(np.array([list(one["probs"].values()) for one in chosen]))
    of = lambda log_t: loss(expit(odds / np.exp(log_t)), own)
    best = np.exp(minimize_scalar(of, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-9}).x)
    temperature = line["calibration"]["temperature"]
    check("temperature", temperature / best, 1, 1e-4)
    scaled = expit(logit(probs) / temperature)
    check("scaled error", line["calibration"]["scaled"]["error"], error(scaled, gold), 1e-5)
    check("scaled loss", line["calibration"]["scaled"]["loss"], loss(scaled, gold), 1e-6)

    train = table([row["tags"] for row in rows(folder / "train.jsonl")], names)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(train), 1)), train)
    for name, guess in [("majority", dummy.predict(np.zeros((len(gold), 1)))), ("every_label", np.ones_like(gold))]:
        check_scores(name, line["baselines"][name], guess)


if __name__ == "__main__":
    main()
