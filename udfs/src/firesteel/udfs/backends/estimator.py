"""Run scikit-learn estimators and pipelines, including the scikit-learn API of LightGBM and XGBoost, on a matrix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from firesteel.udfs.backends.base import NativeModel
    from firesteel.udfs.backends.matrix import Layout


@dataclass(frozen=True, slots=True)
class EstimatorBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    method: Callable[[Any], Any]
    layout: Layout
    name: str = "scikit-learn"
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> Any | None:
        """Return the feature matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """Return the result of the estimator's method."""
        with warnings.catch_warnings():
            # `estimator_backend` has compared the names.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return self.method(batch)


def estimator_backend(model: NativeModel) -> tuple[EstimatorBackend | None, str]:
    """Return the backend, or None and the reason."""
    from sklearn.base import BaseEstimator

    assert model.layout is not None
    if not isinstance(model.flavor, BaseEstimator):
        return None, f"{type(model.flavor).__name__} is not a scikit-learn estimator"
    names = getattr(model.flavor, "feature_names_in_", None)
    if names is not None and tuple(names) != model.layout.columns:
        return None, "the feature names or their order differ from the fit"
    layout = model.layout
    module = type(model.flavor).__module__.partition(".")[0]
    if module == "xgboost":
        layout = layout.with_dtype("float32")  # XGBoost converts every number to float32
    elif module == "lightgbm":
        import numpy as np

        layout = layout.with_dtype(str(np.result_type(layout.dtype, np.float32)))
    return EstimatorBackend(getattr(model.flavor, model.method), layout.in_columns()), ""
