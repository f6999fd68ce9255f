"""Scores of random predictions from scikit-learn and SciPy, as JSON lines: many of the scores are equal.

Of two classes {scores, gold}, of several {scores, gold} with a score a class; what is null is not defined.
"""

import json
import warnings

import numpy as np
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

BINS = 10


def ece(right, said):
    """Guo et al. 2017, by the bins of calibration_curve, which does not tell their sizes."""
    where = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], said)
    weights = np.bincount(where, minlength=BINS)
    rights, saids = calibration_curve(right, said, n_bins=BINS)
    return float((weights[weights > 0] * np.abs(rights - saids)).sum() / len(said))


def two_classes(draw, texts, digits):
    scores = np.round(draw.random(texts), digits)
    gold = draw.integers(0, 2, texts)
    both = 0 < gold.sum() < texts
    right = int(gold.sum())
    interval = binomtest(right, texts).proportion_ci(0.95, method="wilson")
    return {"scores": scores.tolist(), "gold": gold.tolist(),
            "roc_auc": roc_auc_score(gold, scores) if both else None,
            "average_precision": average_precision_score(gold, scores) if right else None,
            "calibration_error": ece(gold, scores),
            "wilson": [interval.low, interval.high]}


def several_classes(draw, texts, classes, digits):
    scores = np.round(draw.dirichlet(np.ones(classes), texts), digits)
    scores[:, -1] = 1 - scores[:, :-1].sum(1)  # roc_auc_score wants them to add to 1
    gold = draw.integers(0, classes, texts)
    every = len(set(gold.tolist())) == classes
    labels = np.arange(classes)
    return {"scores": scores.tolist(), "gold": gold.tolist(),
            "roc_auc": roc_auc_score(gold, scores, multi_class="ovr", labels=labels) if every else None,
            "top": [top_k_accuracy_score(gold, scores, k=k, labels=labels) for k in range(1, classes + 1)]}


def main():
    warnings.simplefilter("ignore")
    draw = np.random.default_rng(11)
    for case in range(200):
        texts, digits = int(draw.integers(2, 60)), int(draw.integers(1, 4))
        print(json.dumps(two_classes(draw, texts, digits)))
        print(json.dumps(several_classes(draw, texts, int(draw.integers(3, 6)), digits)))


if __name__ == "__main__":
    main()
