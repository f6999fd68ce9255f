"""Computes again what a score line says of a regression, with scikit-learn and SciPy.

The argument is a directory with score.json, test.jsonl (predictions) and train.jsonl (rows).
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.dummy import DummyRegressor
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(name, ours, theirs, within):
    assert abs(ours - theirs) <= within, f"{name}: {ours}, not {theirs}"


def main():
    folder = Path(sys.argv[1])
    line = json.loads((folder / "score.json").read_text())
    lines = rows(folder / "test.jsonl")
    gold, pred = (np.array([one[key] for one in lines]) for key in ("gold", "pred"))
    assert len(set(pred)) > 1, "the model says one thing of all: nothing is tested"
    errors = {"mse": mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}
    # Predictions are written in 32 bits.
    for name, theirs in [*errors.items(), ("loss", mean_squared_error), ("pearson", lambda *of: pearsonr(*of).statistic),
                         ("spearman", lambda *of: spearmanr(*of).statistic)]:
        check(name, line["scores"][name], theirs(gold, pred), 1e-5)
    train = np.array([row["number"] for row in rows(folder / "train.jsonl")])
    mean = DummyRegressor().fit(np.zeros((len(train), 1)), train).predict(np.zeros((len(gold), 1)))
    for name, theirs in errors.items():
        check(f"{name} of the mean", line["baselines"]["mean"][name], theirs(gold, mean), 1e-5)
    assert "calibration" not in line and set(line["baselines"]) == {"mean"}


if __name__ == "__main__":
    main()
