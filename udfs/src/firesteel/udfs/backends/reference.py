"""Run the MLflow pyfunc on a pandas frame. Every model has this backend, and its results define correctness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.udfs.backends.base import REFERENCE
from firesteel.udfs.frames import to_pandas

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Reference:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    model: Callable[[Any], Any]
    features: tuple[str, ...]
    name: str = REFERENCE
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> pd.DataFrame:
        """Return a frame of the features."""
        return to_pandas(table, self.features)

    def predict(self, batch: pd.DataFrame) -> Any:
        """Return the model's prediction."""
        return self.model(batch)
