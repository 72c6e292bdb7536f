"""The models of the scoring benchmark without firesteel and without MLflow: bare libraries on a matrix.

A model folder holds what the native library reads (`booster.txt`, `model.joblib`, `model.onnx`); the feature columns are `f00` to
`f29`, `float32`. Every contender but firesteel and `spark_udf` uses `scorer`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

FEATURES = tuple(f"f{number:02d}" for number in range(30))
BLOCK = 8192
"""Rows of a matrix that stays in the L2 cache."""

Scorer = Callable[[np.ndarray], np.ndarray]


def scorer(folder: Path, form: str = "native") -> Scorer:
    """Return a function (rows, 30) `float32` -> (rows,) `float64`. `form` is native or compiled; ONNX has one form."""
    if (folder / "booster.txt").exists():
        return _compiled_trees(folder) if form == "compiled" else _booster(folder)
    if (folder / "model.joblib").exists():
        return _folded(folder) if form == "compiled" else _pipeline(folder)
    return _session(folder)


def matrix(columns: list[np.ndarray]) -> np.ndarray:
    """Return the features as a row-major matrix, written block by block."""
    rows = len(columns[0])
    found = np.empty((rows, len(columns)), np.float32)
    for start in range(0, rows, BLOCK):
        part = found[start : start + BLOCK]
        for index, each in enumerate(columns):
            part[:, index] = each[start : start + BLOCK]
    return found


def _booster(folder: Path) -> Scorer:
    import lightgbm

    booster = lightgbm.Booster(model_file=str(folder / "booster.txt"))
    return lambda rows: booster.predict(rows, num_threads=1)


def _compiled_trees(folder: Path) -> Scorer:
    import lleaves

    model = lleaves.Model(model_file=str(folder / "booster.txt"))
    model.compile(cache=str(folder / "compiled.o"))
    return lambda rows: model.predict(rows, n_jobs=1)


def _pipeline(folder: Path) -> Scorer:
    import joblib

    model = joblib.load(folder / "model.joblib")
    return lambda rows: model.predict_proba(rows)[:, 1].astype(np.float64)


def _folded(folder: Path) -> Scorer:
    """Fold the scaler into the regression: one product."""
    import joblib

    scaler, regression = (step for _, step in joblib.load(folder / "model.joblib").steps)
    weights = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - float(weights @ scaler.mean_)

    def score(rows: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-(rows.astype(np.float64) @ weights + bias)))

    return score


def _session(folder: Path) -> Scorer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})[0].ravel().astype(np.float64)
