"""Computes again what a score line says of a model, from its predictions and the shards, with scikit-learn and SciPy.

The argument is a directory with score.json, test.jsonl, validation.jsonl (predictions), train.tok and test.tok.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import (accuracy_score, average_precision_score, confusion_matrix, f1_score, log_loss, matthews_corrcoef,
                             precision_recall_fscore_support, roc_auc_score, top_k_accuracy_score)
from sklearn.naive_bayes import MultinomialNB

BINS = 15


def predictions(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    names = list(lines[0]["probs"])
    gold = np.array([names.index(line["gold"]) for line in lines])
    return names, gold, np.array([list(line["probs"].values()) for line in lines])


def shard(path):
    """Counts of the tokens of every text, special ones aside, and the names of the classes."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    about = header["__metadata__"]

    def tensor(name, dtype):
        begin, end = header[name]["data_offsets"]
        return np.frombuffer(data[8 + size + begin : 8 + size + end], dtype)

    tokens, offsets = tensor("tokens", "<u2"), tensor("offsets", "<u8")
    vocabulary = int(about["vocab_size"])
    counts = np.stack([np.bincount(tokens[a:b], minlength=vocabulary) for a, b in zip(offsets, offsets[1:])])
    counts[:, json.loads(about["special"])["all"]] = 0
    labels = json.loads(about["labels"])
    return counts, np.array([labels[i] for i in tensor("labels", "<i8")])


def error(probs, gold):
    said, right = probs.max(1), probs.argmax(1) == gold
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], said)
    return sum(abs(said[bins == b].sum() - right[bins == b].sum()) for b in range(BINS)) / len(gold)


def check(name, ours, theirs, within=1e-9):
    assert abs(ours - theirs) <= within, f"{name}: {ours}, not {theirs}"


def main():
    folder = Path(sys.argv[1])
    line = json.loads((folder / "score.json").read_text())
    names, gold, probs = predictions(folder / "test.jsonl")
    texts, classes = probs.shape
    pred = probs.argmax(1)
    assert len(set(pred)) > 1, "the model says one thing of all: nothing is tested"
    for name, theirs in [("accuracy", accuracy_score(gold, pred)), ("micro_f1", f1_score(gold, pred, average="micro")),
                         ("macro_f1", f1_score(gold, pred, average="macro")), ("mcc", matthews_corrcoef(gold, pred))]:
        check(name, line["scores"][name], theirs)
    # Probabilities are written in 32 bits.
    check("loss", line["scores"]["loss"], log_loss(gold, probs / probs.sum(1, keepdims=True), labels=np.arange(classes)), 1e-6)
    told = np.stack(precision_recall_fscore_support(gold, pred, labels=np.arange(classes), zero_division=0), 1)
    for ours, theirs, name in zip(line["per_class"], told, names):
        assert ours["label"] == name
        for key, their in zip(["precision", "recall", "f1", "support"], theirs):
            check(f"{key} of {name}", ours[key], their)
    assert line["confusion"]["counts"] == confusion_matrix(gold, pred, labels=np.arange(classes)).tolist()
    right = int((pred == gold).sum())
    wilson = binomtest(right, texts).proportion_ci(0.95, method="wilson")
    for ours, theirs in zip(line["intervals"]["accuracy"], wilson):
        check("wilson", ours, theirs)
    low, high = line["intervals"]["macro_f1"]
    assert low < line["scores"]["macro_f1"] < high
    check("top_k", line["top_k"]["2"], top_k_accuracy_score(gold, probs, k=2, labels=np.arange(classes)))
    assert list(line["top_k"]) == ["2"], "the sample has four classes"
    onehot = np.eye(classes)[gold]
    check("auc", line["auc"], roc_auc_score(onehot, probs, average="macro"))
    check("average_precision", line["average_precision"], average_precision_score(onehot, probs, average="macro"))
    check("error", line["calibration"]["error"], error(probs, gold))
    assert sum(one["count"] for one in line["calibration"]["bins"]) == texts

    _, own, chosen = predictions(folder / "validation.jsonl")
    loss = lambda log_t: -log_softmax(np.log(chosen) / np.exp(log_t), 1)[np.arange(len(own)), own].mean()
    best = np.exp(minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-9}).x)
    check("temperature", line["calibration"]["temperature"] / best, 1, 1e-4)
    scaled = log_softmax(np.log(probs) / line["calibration"]["temperature"], 1)
    check("scaled error", line["calibration"]["scaled"]["error"], error(np.exp(scaled), gold), 1e-6)
    check("scaled loss", line["calibration"]["scaled"]["loss"], -scaled[np.arange(texts), gold].mean(), 1e-6)

    counts, labels = shard(folder / "train.tok")
    test_counts, test_labels = shard(folder / "test.tok")
    used = counts.sum(0) > 0
    tfidf = TfidfTransformer().fit(counts[:, used])
    bayes = MultinomialNB().fit(tfidf.transform(counts[:, used]), labels)
    kinds, often = np.unique(labels, return_counts=True)
    most = max(kinds, key=lambda kind: (often[list(kinds).index(kind)], -names.index(kind)))
    for name, guess in [("naive_bayes", bayes.predict(tfidf.transform(test_counts[:, used]))),
                        ("majority", np.full(texts, most))]:
        ours = line["baselines"][name]
        check(name, ours["accuracy"], accuracy_score(test_labels, guess))
        check(name, ours["macro_f1"], f1_score(test_labels, guess, average="macro"))


if __name__ == "__main__":
    main()
