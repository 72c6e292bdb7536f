"""Compute scalers and a linear model as one matrix product with folded weights in float64.

A pipeline of StandardScaler and LogisticRegression reads and writes the matrix several times. The folded product reads it once.
See docs/adr/0005-inference-backends.md for measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import NativeModel
    from firesteel.udfs.backends.matrix import Layout

TOLERANCE = 1e-6
CANCELLATION = 1e-9
"""Largest allowed cancellation error. Folding subtracts weight * mean once instead of the mean from each value, which loses digits
if the sum of these products is large."""


@dataclass(frozen=True, slots=True)
class LinearBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`. `weights` has shape (features, outputs), float64."""

    weights: Any
    offsets: Any
    probabilities: bool
    flat: bool
    layout: Layout
    name: str = "folded linear"
    tolerance: float = TOLERANCE

    def encode(self, table: pa.Table) -> Any | None:
        """Return the feature matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any | None:
        """Return probabilities or values, or None if an input is not finite, because scikit-learn rejects such rows."""
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(batch.sum()):
                return None
            raw = batch @ self.weights + self.offsets
        if not self.probabilities:
            return raw[:, 0] if self.flat else raw
        from scipy.special import expit

        probabilities = np.empty((len(batch), 2))
        expit(raw[:, 0], out=probabilities[:, 1])
        np.subtract(1.0, probabilities[:, 1], out=probabilities[:, 0])
        return probabilities


def linear_backend(model: NativeModel) -> tuple[LinearBackend | None, str]:
    """Return the backend, or None and the reason."""
    from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

    assert model.layout is not None
    steps = [step for _, step in model.flavor.steps] if isinstance(model.flavor, Pipeline) else [model.flavor]
    last = steps[-1]
    # Exact types, because a subclass may compute differently.
    if type(last) is LogisticRegression and model.method == "predict_proba":
        if len(last.classes_) != 2:
            return None, "the folded backend supports only two classes"
    elif not (type(last) in {LinearRegression, Ridge, Lasso, ElasticNet} and model.method == "predict"):
        return None, f"{type(last).__name__}.{model.method} is not supported by the folded backend"
    names = getattr(model.flavor, "feature_names_in_", None)
    if names is not None and tuple(names) != model.layout.columns:
        return None, "the feature names or their order differ from the fit"
    scale, shift = np.ones(len(model.layout.columns)), np.zeros(len(model.layout.columns))
    for step in steps[:-1]:  # x -> x * scale + shift
        if type(step) is StandardScaler:
            factor = 1.0 / step.scale_ if step.scale_ is not None else np.ones_like(scale)
            offset = -step.mean_ * factor if step.with_mean else np.zeros_like(shift)
        elif type(step) is MinMaxScaler and not step.clip:
            factor, offset = step.scale_, step.min_
        elif type(step) is MaxAbsScaler:
            factor, offset = 1.0 / step.scale_, np.zeros_like(shift)
        else:
            return None, f"{type(step).__name__} is not supported by the folded backend"
        scale, shift = scale * factor, shift * factor + offset
    coefficients = np.atleast_2d(np.asarray(last.coef_, np.float64)).T
    parts = shift[:, None] * coefficients
    if np.abs(parts).sum(axis=0).max() * np.finfo(np.float64).eps > CANCELLATION:
        return None, "folding would lose precision"
    offsets = parts.sum(axis=0) + np.asarray(last.intercept_, np.float64)
    return LinearBackend(
        weights=np.ascontiguousarray(scale[:, None] * coefficients),
        offsets=offsets,
        probabilities=model.method == "predict_proba",
        flat=np.ndim(last.coef_) == 1,
        layout=model.layout.with_dtype("float64"),
    ), ""
