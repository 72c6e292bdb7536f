"""Run XGBoost boosters on a matrix, without a DMatrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import NativeModel
    from firesteel.udfs.backends.matrix import Layout


@dataclass(frozen=True, slots=True)
class XgboostBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    booster: Any
    layout: Layout
    name: str = "xgboost"
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> Any | None:
        """Return the feature matrix in float32, the dtype of XGBoost."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any | None:
        """Return the booster's prediction, or None if a value is infinite, because the reference's DMatrix rejects such rows."""
        if np.isinf(batch).any():
            return None
        return self.booster.inplace_predict(batch, validate_features=False)


def xgboost_backend(model: NativeModel) -> tuple[XgboostBackend | None, str]:
    """Return the backend, or None and the reason."""
    import xgboost

    assert model.layout is not None
    if not isinstance(model.flavor, xgboost.Booster):
        return None, f"{type(model.flavor).__name__} is not an XGBoost booster"
    names = model.flavor.feature_names
    if names is not None and tuple(names) != model.layout.columns:
        return None, "the feature names or their order differ from the training"
    if model.flavor.feature_types and set(model.flavor.feature_types) - {"float", "int", "q"}:
        return None, "the model has categorical features"
    model.flavor.set_param({"nthread": model.threads})
    return XgboostBackend(model.flavor, model.layout.with_dtype("float32")), ""
