"""Small real models of each flavor, saved with MLflow. Their features are `a`, `b` and `c`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from firesteel.udfs.digest import digest_of
from firesteel.udfs.spec import ModelRef
from firesteel.udfs.trust import artifact_of

FEATURES = ("a", "b", "c")
METHODS = {"logistic": "predict_proba", "forest": "predict_proba"}


def training(dtypes: dict[str, str] | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return 400 rows of three features, and a label that depends on them."""
    seed = np.random.default_rng(7)
    frame = pd.DataFrame(seed.normal(scale=20, size=(400, 3)), columns=list(FEATURES))
    label = (frame["a"] + frame["b"] * frame["c"] / 20 + seed.normal(size=400) > 0).to_numpy().astype(int)
    return frame.astype(dtypes or dict.fromkeys(FEATURES, "float64")), label


def save(
    kind: str,
    folder: Path,
    *,
    dtypes: dict[str, str] | None = None,
    example: bool = False,
    requirements: Sequence[str] = (),
) -> ModelRef:
    """Save a model.

    Parameters
    ----------
    dtypes
        The types of the training frame, and so of the signature.
    requirements
        The lines of the model's requirements.txt.
    """
    frame, label = training(dtypes)
    options = {"signature": infer_signature(frame, label.astype(float)), "pip_requirements": list(requirements)}
    if example:
        options["input_example"] = frame.head(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _SAVERS[kind](frame, label, folder, options)
    return reference(kind, folder, METHODS.get(kind, "predict"))


def reference(name: str, folder: Path, method: str = "predict", types: tuple[str, ...] = ()) -> ModelRef:
    """What loads a model that is trusted in the format in which it is stored."""
    format_ = artifact_of(folder).format
    return ModelRef(name, digest_of(folder).hex, str(folder), method, format=format_, skops_types=types)


def _logistic(frame, label, folder, options):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, label)
    mlflow.sklearn.save_model(model, folder, serialization_format="skops", **options)


def _labels(frame, label, folder, options):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(frame, np.where(label == 1, "late", "on time"))
    mlflow.sklearn.save_model(model, folder, serialization_format="skops", **options)


def _ridge(frame, label, folder, options):
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    model = make_pipeline(MinMaxScaler(), Ridge()).fit(frame, label)
    mlflow.sklearn.save_model(model, folder, serialization_format="skops", **options)


def _forest(frame, label, folder, options):
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(5, max_depth=4, random_state=1).fit(frame, label)
    mlflow.sklearn.save_model(model, folder, serialization_format="cloudpickle", **options)


def _lightgbm(frame, label, folder, options):
    import lightgbm

    data = lightgbm.Dataset(frame, label)
    model = lightgbm.train({"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}, data, 12)
    mlflow.lightgbm.save_model(model, folder, **options)


def _xgboost(frame, label, folder, options):
    import xgboost

    data = xgboost.DMatrix(frame.astype("float32"), label)
    model = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, data, 8)
    mlflow.xgboost.save_model(model, folder, **options)


def _onnx(frame, label, folder, options):
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(frame, label)
    mlflow.onnx.save_model(to_onnx(model, frame.to_numpy().astype("float32")[:1]), folder, **options)


_SAVERS = {
    "logistic": _logistic, "labels": _labels, "ridge": _ridge, "forest": _forest, "lightgbm": _lightgbm,
    "xgboost": _xgboost, "onnx": _onnx,
}  # fmt: skip
KINDS = tuple(_SAVERS)
