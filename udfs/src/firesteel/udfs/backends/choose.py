"""Choose the inference backend: compare the candidates with the reference on the input example and on real rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from firesteel.udfs.backends.base import REFERENCE, Choice, InferenceBackend, NativeModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firesteel.udfs.backends.reference import Reference

SAMPLED_ROWS = 256
"""Number of evenly spaced rows of the first batch that a worker scores with both backends."""

_NATIVE = {
    "lightgbm": "firesteel.udfs.backends.lightgbm:lightgbm_backend",
    "xgboost": "firesteel.udfs.backends.xgboost:xgboost_backend",
    "onnxruntime": "firesteel.udfs.backends.onnx:onnx_backend",
}
_ESTIMATOR = "firesteel.udfs.backends.estimator:estimator_backend"
_COMPILED = {
    "lightgbm": "firesteel.udfs.backends.compiled_trees:lleaves_backend",
    "sklearn": "firesteel.udfs.backends.compiled_linear:linear_backend",
}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate backends, fastest first, and the reasons for excluded backends."""

    backends: tuple[InferenceBackend, ...]
    reasons: tuple[str, ...]


def candidates(model: NativeModel, *, compiled: bool) -> Candidates:
    """Return the candidate backends of a model. Only libraries that the model itself has imported are used."""
    if model.flavor is None:
        return Candidates((), ("the model has no native model behind its pyfunc",))
    if model.layout is None:
        return Candidates((), (model.no_layout_reason,))
    module = type(model.flavor).__module__.partition(".")[0]
    is_estimator = hasattr(model.flavor, "get_params")
    factories = (
        [_COMPILED[module]] if compiled and module in _COMPILED and not (is_estimator and module != "sklearn") else []
    )
    if is_estimator:
        factories.append(_ESTIMATOR)
    elif module in _NATIVE and model.method == "predict":
        factories.append(_NATIVE[module])
    backends, reasons = [], []
    for factory in factories:
        backend, reason = _resolve(factory)(model)
        if backend is not None:
            backends.append(backend)
        else:
            reasons.append(reason)
    if not factories:
        reasons.append(f"no faster backend supports {type(model.flavor).__name__}")
    return Candidates(tuple(backends), tuple(reasons))


def choose(
    reference: Reference, candidate_backends: Candidates, samples: Sequence[pa.Table]
) -> tuple[InferenceBackend, Choice]:
    """Return the first candidate that agrees with the reference on every sample, else the reference.

    The comparison excludes samples on which the reference fails.
    """
    reasons = list(candidate_backends.reasons)
    expected = []
    for sample in samples:
        try:
            expected.append((sample, reference.predict(reference.encode(sample))))
        except Exception as error:  # noqa: BLE001 - scoring reports the bad row of the sample
            reasons.append(f"the reference fails on a sample: {type(error).__name__}")
    for backend in candidate_backends.backends:
        largest, rows, problem = 0.0, 0, ""
        for sample, reference_prediction in expected:
            try:
                batch = backend.encode(sample)
                prediction = backend.predict(batch) if batch is not None else None
            except Exception as error:  # noqa: BLE001 - a failing backend is excluded and reported
                problem = f"{backend.name} fails: {type(error).__name__}"
                break
            if prediction is None:
                continue
            difference = _difference(reference_prediction, prediction)
            if difference is None:
                problem = f"{backend.name} returns a different shape or type"
                break
            largest, rows = max(largest, difference), rows + sample.num_rows
        if not problem and rows == 0:
            problem = f"{backend.name} supports none of the compared rows"
        if not problem and largest > backend.tolerance:
            problem = f"{backend.name} differs by {largest:.3g}, more than {backend.tolerance:g}"
        if not problem:
            agreement = f"within {backend.tolerance:g}" if backend.tolerance else "bit for bit"
            reason = "; ".join([f"agrees with pyfunc {agreement}", *reasons])
            return backend, Choice(backend.name, reason, rows, largest)
        reasons.append(problem)
    return reference, Choice(REFERENCE, "; ".join(reasons))


def sample_of(table: pa.Table) -> pa.Table:
    """Return up to `SAMPLED_ROWS` evenly spaced rows."""
    rows = table.num_rows
    if rows <= SAMPLED_ROWS:
        return table.combine_chunks()
    return table.take(pa.array(np.linspace(0, rows - 1, SAMPLED_ROWS).astype(np.int64))).combine_chunks()


def _difference(expected: Any, actual: Any) -> float | None:
    """Return the largest difference, absolute or relative, whichever is smaller, or None if the values are not comparable."""
    if isinstance(expected, pd.DataFrame):
        if not isinstance(actual, pd.DataFrame) or list(expected.columns) != list(actual.columns):
            return None
        differences = [_difference(expected[name].to_numpy(), actual[name].to_numpy()) for name in expected.columns]
        return None if None in differences else max((d for d in differences if d is not None), default=0.0)
    first, second = np.asarray(expected), np.asarray(actual)
    if first.shape != second.shape:
        return None
    if first.dtype.kind not in "fiub" or second.dtype.kind not in "fiub":
        return 0.0 if first.dtype.kind == second.dtype.kind and bool((first == second).all()) else None
    if first.dtype.kind != second.dtype.kind:
        return None
    if first.dtype.kind != "f":
        return 0.0 if bool((first == second).all()) else float("inf")
    with np.errstate(all="ignore"):
        a, b = first.astype(np.float64), second.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        distance = np.abs(a - b) / np.maximum(1.0, np.abs(a))
    distance = np.where(same, 0.0, np.where(np.isfinite(distance), distance, np.inf))
    return float(distance.max(initial=0.0))


def _resolve(path: str) -> Callable[[NativeModel], tuple[InferenceBackend | None, str]]:
    from importlib import import_module

    module, _, name = path.partition(":")
    factory: Callable[[NativeModel], tuple[InferenceBackend | None, str]] = getattr(import_module(module), name)
    return factory
