"""Run LightGBM boosters on a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import NativeModel
    from firesteel.udfs.backends.matrix import Layout


@dataclass(frozen=True, slots=True)
class LightgbmBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    booster: Any
    layout: Layout
    threads: int
    name: str = "lightgbm"
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> Any | None:
        """Return the feature matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """Return the booster's prediction, with one column per class for several classes."""
        return self.booster.predict(batch, num_threads=self.threads)


def lightgbm_backend(model: NativeModel) -> tuple[LightgbmBackend | None, str]:
    """Return the backend, or None and the reason."""
    import lightgbm
    import numpy as np

    assert model.layout is not None
    if not isinstance(model.flavor, lightgbm.Booster):
        return None, f"{type(model.flavor).__name__} is not a LightGBM booster"
    if model.flavor.pandas_categorical:
        return None, "the model has pandas categories"
    # As LightGBM converts frames: numpy's promotion, at least float32.
    dtype = np.result_type(model.layout.dtype, np.float32)
    return LightgbmBackend(model.flavor, model.layout.with_dtype(str(dtype)), model.threads), ""
