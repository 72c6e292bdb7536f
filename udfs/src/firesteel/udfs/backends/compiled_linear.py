"""Linear models behind scalers as one product: weights and offsets are folded into a vector, in float64.

A pipeline of StandardScaler and LogisticRegression reads and writes the matrix several times and gives two columns; folded it is
one pass over it. docs/adr/0005-inference-backends.md has the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import Opened
    from firesteel.udfs.backends.matrix import Layout

TOLERANCE = 1e-6
CANCELLATION = 1e-9
"""Folding subtracts weight * mean once instead of value - mean each time. Where the sum of those products is so large that
float64 would lose more than this, there is no folded backend."""


@dataclass(frozen=True, slots=True)
class LinearBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`. `weights` is (features, outputs); float64."""

    weights: Any
    offsets: Any
    probabilities: bool
    flat: bool
    layout: Layout
    name: str = "folded linear"
    tolerance: float = TOLERANCE

    def encode(self, table: pa.Table) -> Any | None:
        """The matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any | None:
        """Probabilities or values. None where a value is not finite: scikit-learn refuses such rows, by their index."""
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(batch.sum()):
                return None
            raw = batch @ self.weights + self.offsets
        if not self.probabilities:
            return raw[:, 0] if self.flat else raw
        from scipy.special import expit

        found = np.empty((len(batch), 2))
        expit(raw[:, 0], out=found[:, 1])
        np.subtract(1.0, found[:, 1], out=found[:, 0])
        return found


def linear_backend(opened: Opened) -> tuple[LinearBackend | None, str]:
    """The backend, or None and the reason."""
    from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

    assert opened.layout is not None
    steps = [step for _, step in opened.flavor.steps] if isinstance(opened.flavor, Pipeline) else [opened.flavor]
    last = steps[-1]
    # Exact types: a subclass may compute something else.
    if type(last) is LogisticRegression and opened.method == "predict_proba":
        if len(last.classes_) != 2:
            return None, "only two classes have a folded backend"
    elif not (type(last) in {LinearRegression, Ridge, Lasso, ElasticNet} and opened.method == "predict"):
        return None, f"{type(last).__name__}.{opened.method} has no compiled backend"
    names = getattr(opened.flavor, "feature_names_in_", None)
    if names is not None and tuple(names) != opened.layout.columns:
        return None, "the features are not those of the fit, in its order"
    scale, shift = np.ones(len(opened.layout.columns)), np.zeros(len(opened.layout.columns))
    for step in steps[:-1]:  # x -> x * scale + shift
        if type(step) is StandardScaler:
            by = 1.0 / step.scale_ if step.scale_ is not None else np.ones_like(scale)
            add = -step.mean_ * by if step.with_mean else np.zeros_like(shift)
        elif type(step) is MinMaxScaler and not step.clip:
            by, add = step.scale_, step.min_
        elif type(step) is MaxAbsScaler:
            by, add = 1.0 / step.scale_, np.zeros_like(shift)
        else:
            return None, f"{type(step).__name__} has no compiled backend"
        scale, shift = scale * by, shift * by + add
    coefficients = np.atleast_2d(np.asarray(last.coef_, np.float64)).T
    parts = shift[:, None] * coefficients
    if np.abs(parts).sum(axis=0).max() * np.finfo(np.float64).eps > CANCELLATION:
        return None, "folding would cancel digits"
    offsets = parts.sum(axis=0) + np.asarray(last.intercept_, np.float64)
    return LinearBackend(
        weights=np.ascontiguousarray(scale[:, None] * coefficients),
        offsets=offsets,
        probabilities=opened.method == "predict_proba",
        flat=np.ndim(last.coef_) == 1,
        layout=opened.layout.with_dtype("float64"),
    ), ""
