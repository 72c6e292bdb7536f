"""scikit-learn estimators and pipelines (and LightGBM's and XGBoost's in their scikit-learn clothes) on a matrix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from firesteel.udfs.backends.base import Opened
    from firesteel.udfs.backends.matrix import Layout


@dataclass(frozen=True, slots=True)
class EstimatorBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    method: Callable[[Any], Any]
    layout: Layout
    name: str = "scikit-learn"
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> Any | None:
        """The matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """The estimator's own method."""
        with warnings.catch_warnings():
            # Names were compared when the backend was made.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return self.method(batch)


def estimator_backend(opened: Opened) -> tuple[EstimatorBackend | None, str]:
    """The backend, or None and the reason."""
    from sklearn.base import BaseEstimator

    assert opened.layout is not None
    if not isinstance(opened.flavor, BaseEstimator):
        return None, f"{type(opened.flavor).__name__} is no scikit-learn estimator"
    names = getattr(opened.flavor, "feature_names_in_", None)
    if names is not None and tuple(names) != opened.layout.columns:
        return None, "the features are not those of the fit, in its order"
    layout = opened.layout
    module = type(opened.flavor).__module__.partition(".")[0]
    if module == "xgboost":
        layout = layout.with_dtype("float32")  # what XGBoost makes of every number, each from its own type
    elif module == "lightgbm":
        import numpy as np

        layout = layout.with_dtype(str(np.result_type(layout.dtype, np.float32)))
    return EstimatorBackend(getattr(opened.flavor, opened.method), layout.in_columns()), ""
