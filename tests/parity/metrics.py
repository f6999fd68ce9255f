"""Scores of random predictions from scikit-learn and SciPy, as JSON lines: many of the scores are equal.

Every line has a `kind`; what is null is not defined.
"""

import json
import warnings

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (accuracy_score, average_precision_score, confusion_matrix, f1_score, log_loss, matthews_corrcoef,
                             mean_absolute_error, mean_squared_error, precision_recall_fscore_support, r2_score, roc_auc_score,
                             silhouette_score, top_k_accuracy_score)
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

BINS = 10


def ece(right, said, bins=BINS):
    """Guo et al. 2017, by the bins of calibration_curve, which does not tell their sizes."""
    where = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], said)
    weights = np.bincount(where, minlength=bins)
    rights, saids = calibration_curve(right, said, n_bins=bins)
    return float((weights[weights > 0] * np.abs(rights - saids)).sum() / len(said))


def two_classes(draw, texts, digits):
    scores = np.round(draw.random(texts), digits)
    gold = draw.integers(0, 2, texts)
    both = 0 < gold.sum() < texts
    right = int(gold.sum())
    interval = binomtest(right, texts).proportion_ci(0.95, method="wilson")
    return {"kind": "two", "scores": scores.tolist(), "gold": gold.tolist(),
            "roc_auc": roc_auc_score(gold, scores) if both else None,
            "average_precision": average_precision_score(gold, scores) if right else None,
            "calibration_error": ece(gold, scores),
            "wilson": [interval.low, interval.high]}


def several_classes(draw, texts, classes, digits):
    scores = np.round(draw.dirichlet(np.ones(classes), texts), digits)
    scores[:, -1] = 1 - scores[:, :-1].sum(1)  # roc_auc_score wants them to add to 1
    scores = scores.astype("f4").astype("f8")  # as a model says them: what is equal there is equal here
    gold = draw.integers(0, classes, texts)
    labels = np.arange(classes)
    # A class that no text has, or all have, does not count; where there is none such, it is scikit-learn's own mean.
    told = [c for c in labels if 0 < (gold == c).sum() < texts]
    mean = lambda score: float(np.mean([score(gold == c, scores[:, c]) for c in told])) if told else None
    auc, precision = mean(roc_auc_score), mean(average_precision_score)
    if len(told) == classes:
        assert abs(auc - roc_auc_score(gold, scores, multi_class="ovr", labels=labels)) < 1e-12
        assert abs(precision - average_precision_score(gold, scores)) < 1e-12
    return {"kind": "several", "scores": scores.tolist(), "gold": gold.tolist(), "roc_auc": auc, "average_precision": precision,
            "top": [top_k_accuracy_score(gold, scores, k=k, labels=labels) for k in range(1, classes + 1)]}


def several_labels(draw, texts, classes, digits):
    scores = np.round(draw.random((texts, classes)), digits).astype("f4").astype("f8")
    gold = draw.integers(0, 2, (texts, classes))
    gold[0], gold[1] = 0, 1  # so that every class is told apart
    return {"kind": "labels", "scores": scores.tolist(), "gold": gold.tolist(),
            "roc_auc": roc_auc_score(gold, scores, average="macro"),
            "average_precision": average_precision_score(gold, scores, average="macro")}


def temperatures(draw, texts, classes):
    """Guo et al. 2017: the temperature of the least loss, from logits that are too large or too small."""
    logits = draw.normal(size=(texts, classes)) * draw.choice([0.3, 1, 5])
    gold = np.array([draw.choice(classes, p=np.exp(row - logsumexp(row))) for row in logits / draw.choice([0.5, 1, 3])])
    logs = (logits - logsumexp(logits, 1, keepdims=True)).astype("f4").astype("f8")
    rows = np.arange(texts)

    def loss(log_t):
        scaled = logs / np.exp(log_t)
        return np.mean(logsumexp(scaled, 1) - scaled[rows, gold])

    found = minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-10})
    return {"kind": "temperature", "logs": logs.ravel().tolist(), "classes": classes, "gold": gold.tolist(),
            "temperature": float(np.exp(found.x)), "loss": float(found.fun)}


def tests(draw):
    a, b = (int(n) for n in draw.integers(0, draw.choice([3, 30, 3000]), 2))
    numbers = draw.normal(3, 0.1, int(draw.integers(2, 9)))
    low, high = stats.t.interval(0.95, len(numbers) - 1, numbers.mean(), stats.sem(numbers))
    return {"kind": "tests", "only": [a, b], "mcnemar": binomtest(a, a + b).pvalue if a + b else 1.0,
            "numbers": numbers.tolist(), "sd": float(numbers.std(ddof=1)), "interval": [low, high]}


def bootstraps(draw, texts, classes):
    """The percentile interval of macro F1; ours draws other samples, so that ends differ by chance."""
    gold = draw.integers(0, classes, texts)
    pred = np.where(draw.random(texts) < 0.7, gold, draw.integers(0, classes, texts))

    def score(gold, pred):
        hits, golds, preds = (np.bincount(of, minlength=classes) for of in (gold[gold == pred], gold, pred))
        occur = golds + preds > 0
        return np.mean(2 * hits[occur] / (golds + preds)[occur])

    assert abs(score(gold, pred) - f1_score(gold, pred, average="macro")) < 1e-12
    found = stats.bootstrap((gold, pred), score, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=draw)
    low, high = found.confidence_interval
    return {"kind": "bootstrap", "gold": gold.tolist(), "pred": pred.tolist(), "classes": classes, "interval": [low, high]}


def bayes(draw, texts, classes):
    """Token 0 is special; the last tokens are in no text that is learnt from."""
    lengths = draw.integers(1, 12, texts + 5)
    words = [draw.integers(0, 20 if i < texts else 25, n).tolist() for i, n in enumerate(lengths)]
    gold = draw.integers(0, classes, texts)
    counts = np.stack([np.bincount(text, minlength=25) for text in words])
    used = np.flatnonzero((counts[:texts].sum(0) > 0) & (np.arange(25) > 0))
    if not len(used):
        return bayes(draw, texts, classes)
    tfidf = TfidfTransformer().fit(counts[:texts, used])
    model = MultinomialNB().fit(tfidf.transform(counts[:texts, used]), gold)
    scores = model.predict_joint_log_proba(tfidf.transform(counts[texts:, used]))
    return {"kind": "bayes", "train": words[:texts], "test": words[texts:], "gold": gold.tolist(), "classes": classes,
            "known": model.classes_.tolist(), "scores": scores.tolist()}


def per_class(gold, pred, **how):
    """Precision, recall, F1 and support of each class; 0 where scikit-learn would warn that they are not defined."""
    return np.stack(precision_recall_fscore_support(gold, pred, zero_division=0, **how), 1).tolist()


def confusions(draw, texts, classes):
    """Gold and predictions of some of the classes each, perhaps of one: MCC is 0 then, in scikit-learn too."""
    golds, preds = (draw.permutation(classes)[: draw.integers(1, classes + 1)] for _ in range(2))
    gold = draw.choice(golds, texts)
    pred = np.where(draw.random(texts) < draw.random(), gold, draw.choice(preds, texts))
    labels = np.arange(classes)
    counts = confusion_matrix(gold, pred, labels=labels)
    return {"kind": "confusion", "gold": gold.tolist(), "pred": pred.tolist(), "classes": classes,
            "accuracy": accuracy_score(gold, pred), "micro_f1": f1_score(gold, pred, average="micro"),
            "macro_f1": f1_score(gold, pred, average="macro"), "mcc": matthews_corrcoef(gold, pred),
            "per_class": per_class(gold, pred, labels=labels), "cells": [[g, p, int(counts[g, p])] for g, p in np.argwhere(counts).tolist()]}


def label_sets(draw, texts, classes):
    """Tables of 0 and 1; some classes no text has, or all have, and texts may have none. Of one class scikit-learn takes a
    table for two classes."""
    often = np.where(draw.random(classes) < 0.2, draw.integers(0, 2, classes), draw.random(classes))
    gold = (draw.random((texts, classes)) < often).astype(int)
    pred = np.where(draw.random((texts, classes)) < draw.random(), gold, draw.random((texts, classes)) < often).astype(int)
    f1 = lambda average: f1_score(gold, pred, average=average, zero_division=0)
    return {"kind": "sets", "gold": gold.tolist(), "pred": pred.tolist(), "accuracy": accuracy_score(gold, pred),
            "micro_f1": f1("micro"), "macro_f1": f1("macro"), "per_class": per_class(gold, pred)}


def regressions(draw, texts, digits):
    """Many equal numbers, perhaps all. Of what does not vary, and of what is no number, nothing is defined but the errors;
    of gold that does not vary, r2_score says 0 or 1."""
    gold, pred = (np.round(draw.normal(size=texts) * draw.integers(0, 4), digits) for _ in range(2))
    mse, mae = mean_squared_error(gold, pred), mean_absolute_error(gold, pred)
    r2 = r2_score(gold, pred) if len(set(gold)) > 1 else None
    both = len(set(gold)) > 1 and len(set(pred)) > 1
    pearson, spearman = (of(gold, pred).statistic if both else None for of in (stats.pearsonr, stats.spearmanr))
    if draw.random() < 0.1:
        pred[draw.integers(texts)] = np.nan
        mse = mae = r2 = pearson = spearman = None
    return {"kind": "numbers", "gold": gold.tolist(), "pred": [None if p != p else p for p in pred],
            "mse": mse, "mae": mae, "r2": r2, "pearson": pearson, "spearman": spearman}


def lines(draw, texts, classes):
    """What a score line says of probabilities, also at a temperature. A text that is said to be no number has no score."""
    logs = draw.normal(size=(texts, classes)) * 2
    probs = np.exp(logs - logsumexp(logs, 1, keepdims=True)).astype("f4").astype("f8")
    gold, temperature = draw.integers(0, classes, texts), float(draw.uniform(0.5, 3))
    labels, pred = np.arange(classes), probs.argmax(1)
    scaled = np.log(probs) / temperature
    scaled = np.exp(scaled - logsumexp(scaled, 1, keepdims=True))
    told = lambda probs: ece((pred == gold).astype(int), probs[np.arange(texts), pred], 15)
    case = {"kind": "line", "probs": probs.tolist(), "gold": gold.tolist(), "temperature": temperature,
            "top": {str(k): top_k_accuracy_score(gold, probs, k=k, labels=labels) if classes > 2 else None for k in (2, 5) if k < classes},
            "error": told(probs), "scaled": told(scaled), "loss": log_loss(gold, scaled, labels=labels)}
    if draw.random() < 0.2:
        # Whatever it is, the first text is not among the right ones then.
        case["probs"][0] = [None] * classes
        for k, share in case["top"].items():
            was = gold[0] in np.argsort(probs[0], kind="stable")[-int(k):]
            case["top"][k] = share - was / texts
        case["error"] = case["scaled"] = case["loss"] = None
    return case


def label_lines(draw, texts, classes):
    """The same where a text has any number of classes: calibration over texts and classes."""
    probs = draw.random((texts, classes)).astype("f4").astype("f8")
    gold = draw.integers(0, 2, (texts, classes))
    temperature = float(draw.uniform(0.5, 3))
    odds = (np.log(probs) - np.log1p(-probs)) / temperature
    scaled = 1 / (1 + np.exp(-odds))
    flat, all_gold = scaled.ravel(), gold.ravel()
    return {"kind": "label_line", "probs": probs.tolist(), "gold": gold.tolist(), "temperature": temperature,
            "error": ece(all_gold, probs.ravel(), 15), "scaled": ece(all_gold, flat, 15),
            "loss": log_loss(all_gold, np.stack([1 - flat, flat], 1), labels=[0, 1])}


def pairs(draw, texts, classes):
    """Predictions of two models, as files."""
    gold = draw.integers(0, classes, texts)
    a, b = (np.where(draw.random(texts) < 0.6, gold, draw.integers(0, classes, texts)) for _ in range(2))
    only = [int(((one == gold) & (other != gold)).sum()) for one, other in ((a, b), (b, a))]
    return {"kind": "pair", "gold": gold.tolist(), "a": a.tolist(), "b": b.tolist(), "only": only,
            "mcnemar": binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0,
            "accuracy": [accuracy_score(gold, one) for one in (a, b)],
            # Each over the classes that occur there, as in evaluate.
            "macro_f1": [f1_score(gold, one, average="macro") for one in (a, b)]}


def label_bootstraps(draw, texts, classes):
    """Percentile intervals of both F1 of label sets; ours draws other samples, so that ends differ by chance."""
    gold = draw.random((texts, classes)) < draw.uniform(0.1, 0.6, classes)
    pred = np.where(draw.random((texts, classes)) < 0.8, gold, ~gold)

    def score(average):
        def of(rows):
            hits, golds, preds = (one[rows].sum(0) for one in (gold & pred, gold, pred))
            if average == "micro":
                return 2 * hits.sum() / max(golds.sum() + preds.sum(), 1)
            return np.mean(2 * hits / np.maximum(golds + preds, 1))
        return of

    def interval(average):
        of = score(average)
        assert abs(of(np.arange(texts)) - f1_score(gold, pred, average=average, zero_division=0)) < 1e-12
        found = stats.bootstrap((np.arange(texts),), of, vectorized=False, n_resamples=2000, method="percentile", rng=draw)
        return list(found.confidence_interval)

    return {"kind": "label_bootstrap", "gold": gold.astype(int).tolist(), "pred": pred.astype(int).tolist(),
            "micro": interval("micro"), "macro": interval("macro")}


def probe(points, gold, c, standardize):
    """The least loss, not where a solver grows tired of it."""
    probe = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=10000)
    return (make_pipeline(StandardScaler(), probe) if standardize else probe).fit(points, gold)


def cka(a, b):
    """Kornblith et al. 2019, by the kernels of equation 4; their layers are wide, or their texts many."""
    a, b = a - a.mean(0), b - b.mean(0)
    a, b = a @ a.T, b @ b.T
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 0 else None


def layers(draw, texts, classes):
    """Vectors of texts in two models, some columns all but equal, others large; classes that are rare or alone."""
    width, other = (int(n) for n in draw.integers(1, 30, 2))
    gold = draw.choice(classes, texts, p=draw.dirichlet(np.ones(classes)))
    points = draw.normal(size=(texts, width)) * draw.choice([0.01, 1, 20], width) + draw.normal(size=width)
    points += draw.normal(size=(classes, width))[gold] * draw.choice([0, 1])
    points[:, 0] = draw.choice([points[0, 0], points[1, 0]], texts)
    others = points[:, :1] * draw.choice([0, 1]) + draw.normal(size=(texts, other))
    c, standardize = float(draw.choice([0.01, 1, 100])), bool(draw.integers(2))
    case = {"kind": "layers", "points": points.tolist(), "others": others.tolist(), "gold": gold.tolist(), "c": c,
            "standardize": standardize, "cka": cka(points, others)}
    there = len(set(gold))
    case["silhouette"] = silhouette_score(points, gold) if 1 < there < texts else None
    if there > 1:
        model = probe(points, gold, c, standardize)
        case["classes"] = model.classes_.tolist()
        case["shares"] = model.predict_proba(points).tolist()
    folds = draw.permutation(np.arange(texts) % 3)
    case["folds"] = folds.tolist()
    if all(len(set(gold[folds != fold])) > 1 for fold in range(3)):
        parts = [(folds == fold, probe(points[folds != fold], gold[folds != fold], c, standardize)) for fold in range(3)]
        # Where two classes are as probable as each other but for rounding, either may be named.
        tops = np.concatenate([np.sort(model.predict_proba(points[fold]), 1)[:, -2:] for fold, model in parts])
        if (np.diff(tops) > 1e-6).all():
            case["right"] = int(sum((model.predict(points[fold]) == gold[fold]).sum() for fold, model in parts))
    return case


def main():
    warnings.simplefilter("ignore")
    draw = np.random.default_rng(11)
    for case in range(200):
        texts, digits = int(draw.integers(2, 60)), int(draw.integers(1, 4))
        print(json.dumps(two_classes(draw, texts, digits)))
        print(json.dumps(several_classes(draw, texts, int(draw.integers(3, 6)), digits)))
        print(json.dumps(several_labels(draw, texts, int(draw.integers(2, 6)), digits)))
        print(json.dumps(tests(draw)))
        print(json.dumps(confusions(draw, int(draw.choice([1, 2, texts])), int(draw.choice([1, 2, 3, 7, 1500 if case < 2 else 40])))))
        print(json.dumps(label_sets(draw, int(draw.choice([1, 2, texts])), int(draw.integers(2, 12)))))
        print(json.dumps(regressions(draw, int(draw.choice([2, texts])), digits)))
        print(json.dumps(lines(draw, texts, int(draw.choice([2, 3, 7])))))
        print(json.dumps(label_lines(draw, texts, int(draw.integers(1, 6)))))
        print(json.dumps(pairs(draw, texts, int(draw.integers(1, 6)))))
        print(json.dumps(bayes(draw, int(draw.integers(2, 20)), int(draw.integers(1, 4)))))
    for case in range(20):
        print(json.dumps(temperatures(draw, int(draw.integers(50, 200)), int(draw.integers(2, 6)))))
    for case in range(100):
        print(json.dumps(layers(draw, int(draw.integers(6, 80)), int(draw.integers(1, 6)))))
    for case in range(4):
        print(json.dumps(bootstraps(draw, int(draw.integers(100, 300)), int(draw.integers(2, 5)))))
        print(json.dumps(label_bootstraps(draw, int(draw.integers(100, 300)), int(draw.integers(2, 5)))))


if __name__ == "__main__":
    main()
