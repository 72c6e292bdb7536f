"""The choice of a backend: by what the model is, held against the reference on its example and on real rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from firesteel.udfs.backends.base import REFERENCE, Choice, InferenceBackend, Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firesteel.udfs.backends.reference import Reference

SAMPLED_ROWS = 256
"""Rows of the first batch that a worker scores twice, evenly spread."""

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
    """Forms to try, the fastest first, and why others are none."""

    backends: tuple[InferenceBackend, ...]
    reasons: tuple[str, ...]


def candidates(opened: Opened, *, compiled: bool) -> Candidates:
    """The backends that this model could have. Nothing is imported that the model itself has not brought."""
    if opened.flavor is None:
        return Candidates((), ("the pyfunc is all that this model has",))
    if opened.layout is None:
        return Candidates((), (opened.why_no_layout,))
    module = type(opened.flavor).__module__.partition(".")[0]
    is_estimator = hasattr(opened.flavor, "get_params")
    makers = (
        [_COMPILED[module]] if compiled and module in _COMPILED and not (is_estimator and module != "sklearn") else []
    )
    if is_estimator:
        makers.append(_ESTIMATOR)
    elif module in _NATIVE and opened.method == "predict":
        makers.append(_NATIVE[module])
    backends, reasons = [], []
    for maker in makers:
        backend, reason = _resolve(maker)(opened)
        if backend is not None:
            backends.append(backend)
        else:
            reasons.append(reason)
    if not makers:
        reasons.append(f"no faster backend for {type(opened.flavor).__name__}")
    return Candidates(tuple(backends), tuple(reasons))


def choose(reference: Reference, found: Candidates, samples: Sequence[pa.Table]) -> tuple[InferenceBackend, Choice]:
    """The first candidate that agrees with the reference on every sample; else the reference.

    A sample on which the reference itself fails says nothing, and is left out.
    """
    reasons = list(found.reasons)
    expected = []
    for sample in samples:
        try:
            expected.append((sample, reference.predict(reference.encode(sample))))
        except Exception as error:  # noqa: BLE001 - a bad row in the sample; the scoring will find and name it
            reasons.append(f"the reference fails on a sample: {type(error).__name__}")
    for backend in found.backends:
        largest, rows, problem = 0.0, 0, ""
        for sample, right in expected:
            try:
                batch = backend.encode(sample)
                got = backend.predict(batch) if batch is not None else None
            except Exception as error:  # noqa: BLE001 - a backend that fails is not chosen, and the reason is reported
                problem = f"{backend.name} fails: {type(error).__name__}"
                break
            if got is None:
                continue
            difference = _difference(right, got)
            if difference is None:
                problem = f"{backend.name} returns another shape or type"
                break
            largest, rows = max(largest, difference), rows + sample.num_rows
        if not problem and rows == 0:
            problem = f"{backend.name} could not be compared"
        if not problem and largest > backend.tolerance:
            problem = f"{backend.name} differs by {largest:.3g}, more than {backend.tolerance:g}"
        if not problem:
            how = f"within {backend.tolerance:g}" if backend.tolerance else "bit for bit"
            reason = "; ".join([f"agrees with pyfunc {how}", *reasons])
            return backend, Choice(backend.name, reason, rows, largest)
        reasons.append(problem)
    return reference, Choice(REFERENCE, "; ".join(reasons))


def sample_of(table: pa.Table) -> pa.Table:
    """Up to `SAMPLED_ROWS` rows, evenly spread."""
    rows = table.num_rows
    if rows <= SAMPLED_ROWS:
        return table.combine_chunks()
    return table.take(pa.array(np.linspace(0, rows - 1, SAMPLED_ROWS).astype(np.int64))).combine_chunks()


def _difference(right: Any, got: Any) -> float | None:
    """The largest difference, absolute or relative to the value, whichever is smaller; None when they cannot be compared."""
    if isinstance(right, pd.DataFrame):
        if not isinstance(got, pd.DataFrame) or list(right.columns) != list(got.columns):
            return None
        each = [_difference(right[name].to_numpy(), got[name].to_numpy()) for name in right.columns]
        return None if any(one is None for one in each) else max((one for one in each if one is not None), default=0.0)
    first, second = np.asarray(right), np.asarray(got)
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
        apart = np.abs(a - b) / np.maximum(1.0, np.abs(a))
    apart = np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))
    return float(apart.max(initial=0.0))


def _resolve(maker: str) -> Callable[[Opened], tuple[InferenceBackend | None, str]]:
    from importlib import import_module

    module, _, name = maker.partition(":")
    found: Callable[[Opened], tuple[InferenceBackend | None, str]] = getattr(import_module(module), name)
    return found
