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
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, silhouette_score, top_k_accuracy_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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
        print(json.dumps(bayes(draw, int(draw.integers(2, 20)), int(draw.integers(1, 4)))))
    for case in range(20):
        print(json.dumps(temperatures(draw, int(draw.integers(50, 200)), int(draw.integers(2, 6)))))
    for case in range(100):
        print(json.dumps(layers(draw, int(draw.integers(6, 80)), int(draw.integers(1, 6)))))
    for case in range(4):
        print(json.dumps(bootstraps(draw, int(draw.integers(100, 300)), int(draw.integers(2, 5)))))


if __name__ == "__main__":
    main()
