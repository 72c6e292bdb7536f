"""XGBoost boosters on a matrix, without a DMatrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import Opened
    from firesteel.udfs.backends.matrix import Layout


@dataclass(frozen=True, slots=True)
class XgboostBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    booster: Any
    layout: Layout
    name: str = "xgboost"
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> Any | None:
        """The matrix; float32, as XGBoost makes of every number."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any | None:
        """The booster's prediction. None where a value is infinite: the reference's DMatrix refuses such rows."""
        if np.isinf(batch).any():
            return None
        return self.booster.inplace_predict(batch, validate_features=False)


def xgboost_backend(opened: Opened) -> tuple[XgboostBackend | None, str]:
    """The backend, or None and the reason."""
    import xgboost

    assert opened.layout is not None
    if not isinstance(opened.flavor, xgboost.Booster):
        return None, f"{type(opened.flavor).__name__} is no XGBoost booster"
    names = opened.flavor.feature_names
    if names is not None and tuple(names) != opened.layout.columns:
        return None, "the features are not those of the training, in its order"
    if opened.flavor.feature_types and set(opened.flavor.feature_types) - {"float", "int", "q"}:
        return None, "the model has categories"
    opened.flavor.set_param({"nthread": opened.threads})
    return XgboostBackend(opened.flavor, opened.layout.with_dtype("float32")), ""
