"""Data and models of the scoring benchmark."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contenders.models import FEATURES

DAY = "2024-01-01"
FILES = 8


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the benchmark. `rows` is the number of rows that it scores in a warm session."""

    name: str
    rows: int
    method: str
    output: str
    forms: tuple[str, ...]
    trees: bool = False
    features: tuple[str, ...] = FEATURES


@dataclass(frozen=True, slots=True)
class Saved:
    """A model saved twice: by MLflow, and by its own library."""

    mlflow: Path
    bare: Path


MODELS = (
    Model("LightGBM 200x31", 1_600_000, "predict", "double", ("native", "compiled"), trees=True),
    Model("logistic regression", 8_000_000, "predict_proba", "double from [1]", ("native", "compiled")),
    Model("ONNX MLP", 8_000_000, "predict", "float from p", ("native",)),
)


def rows_of(model: Model, scale: float) -> int:
    """Return the number of rows at a scale."""
    return max(10_000, int(model.rows * scale))


def write_days(root: Path, rows: int) -> Path:
    """Write one day of points in eight files with row groups of 128 Ki rows."""
    folder = root / "points" / f"dt={DAY}"
    folder.mkdir(parents=True)
    seed = np.random.default_rng(1)
    for number, ids in enumerate(np.array_split(np.arange(rows, dtype=np.int64), FILES)):
        columns = {name: seed.standard_normal(len(ids), np.float32) for name in FEATURES}
        table = pa.table({"id": ids, **columns})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=131_072, use_dictionary=False)
    return root


def write_sides(root: Path, rows: int) -> None:
    """Write the other side of a join: a feature by id, in another order."""
    folder = root / "sides" / f"dt={DAY}"
    folder.mkdir(parents=True)
    seed = np.random.default_rng(2)
    table = pa.table({"id": seed.permutation(rows), "g": seed.standard_normal(rows, np.float32)})
    pq.write_table(table, folder / "part-0.parquet", row_group_size=131_072, use_dictionary=False)


def save_model(model: Model, folder: Path) -> Saved:
    """Train a model on 20,000 rows, and save it in both ways."""
    seed = np.random.default_rng(3)
    rows = seed.standard_normal((20_000, len(FEATURES)), np.float32)
    label = (rows[:, 0] + rows[:, 1] * rows[:, 2] + 0.5 * seed.standard_normal(len(rows)) > 0).astype(int)
    saved = Saved(folder / "mlflow", folder / "bare")
    saved.bare.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _SAVERS[model.name](rows, label, saved)
    return saved


def _options(rows: np.ndarray, prediction: np.ndarray, **names: list[str]) -> dict[str, object]:
    import pandas as pd
    from mlflow.models import infer_signature

    frame = pd.DataFrame(rows[:100], columns=list(FEATURES))
    output = pd.DataFrame(prediction[:100], **names) if names else prediction[:100]
    return {"signature": infer_signature(frame, output), "input_example": frame.head(5), "pip_requirements": []}


def _lightgbm(rows: np.ndarray, label: np.ndarray, saved: Saved) -> None:
    import lightgbm
    import mlflow

    options = {"objective": "binary", "num_leaves": 31, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(rows, label, feature_name=list(FEATURES))
    booster = lightgbm.train(options, data, 200)
    booster.save_model(saved.bare / "booster.txt")
    mlflow.lightgbm.save_model(booster, saved.mlflow, **_options(rows, booster.predict(rows[:100])))


def _logistic(rows: np.ndarray, label: np.ndarray, saved: Saved) -> None:
    import joblib
    import mlflow
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, label), saved.bare / "model.joblib")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(pd.DataFrame(rows, columns=list(FEATURES)), label)
    frame = pd.DataFrame(rows[:100], columns=list(FEATURES))
    options = _options(rows, model.predict_proba(frame)[:, 1])
    mlflow.sklearn.save_model(model, saved.mlflow, serialization_format="skops", **options)


def _onnx(rows: np.ndarray, label: np.ndarray, saved: Saved) -> None:
    import mlflow
    import onnx

    graph = _mlp(rows, label)
    onnx.save(graph, saved.bare / "model.onnx")
    prediction = np.zeros((100, 1), np.float32)
    mlflow.onnx.save_model(graph, saved.mlflow, **_options(rows, prediction, columns=["p"]))


def _mlp(rows: np.ndarray, label: np.ndarray) -> object:
    """Return a network 30 -> 32 -> 16 -> 1 (ReLU, sigmoid) as an ONNX graph with one input and the output `p`."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=5, random_state=1).fit(rows, label)
    graph = to_onnx(model, rows[:1])
    graph.graph.node[-1].output[0], graph.graph.output[0].name = "p", "p"
    return graph


_SAVERS = {"LightGBM 200x31": _lightgbm, "logistic regression": _logistic, "ONNX MLP": _onnx}
