"""LightGBM boosters on a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import Opened
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
        """The matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """The booster's prediction; one column for each class where there are several."""
        return self.booster.predict(batch, num_threads=self.threads)


def lightgbm_backend(opened: Opened) -> tuple[LightgbmBackend | None, str]:
    """The backend, or None and the reason."""
    import lightgbm
    import numpy as np

    assert opened.layout is not None
    if not isinstance(opened.flavor, lightgbm.Booster):
        return None, f"{type(opened.flavor).__name__} is no LightGBM booster"
    if opened.flavor.pandas_categorical:
        return None, "the model has pandas categories"
    # LightGBM's own rule for frames: numpy's promotion, at least float32.
    dtype = np.result_type(opened.layout.dtype, np.float32)
    return LightgbmBackend(opened.flavor, opened.layout.with_dtype(str(dtype)), opened.threads), ""
