"""ONNX models with one input of two dimensions, on a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import Opened
    from firesteel.udfs.backends.matrix import Layout

_INPUTS = {"tensor(float)": ("float32", {"float32", "float64"}), "tensor(double)": ("float64", {"float64"})}
"""The type of the input -> its dtype, and the dtypes of frames that MLflow makes it of: it narrows, and nothing else."""


@dataclass(frozen=True, slots=True)
class OnnxBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    session: Any
    layout: Layout
    input: str
    outputs: tuple[str, ...]
    name: str = "onnxruntime"
    tolerance: float = 0.0

    def encode(self, table: pa.Table) -> Any | None:
        """The matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """A frame of the outputs, flat, as MLflow gives them."""
        found = self.session.run(list(self.outputs), {self.input: batch})
        return pd.DataFrame(
            {name: np.asarray(each).reshape(-1) for name, each in zip(self.outputs, found, strict=True)}
        )


def onnx_backend(opened: Opened) -> tuple[OnnxBackend | None, str]:
    """The backend, or None and the reason."""
    import onnxruntime

    assert opened.layout is not None
    session = opened.flavor
    if not isinstance(session, onnxruntime.InferenceSession):
        return None, f"{type(session).__name__} is no ONNX Runtime session"
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 2:
        return None, "the model has other inputs than one matrix"
    dtype, frames = _INPUTS.get(inputs[0].type, ("", set()))
    if opened.layout.dtype not in frames:
        return None, f"the model takes {inputs[0].type}, the frame is {opened.layout.dtype}"
    if dtype != opened.layout.dtype and any(each.startswith("int64") for each in opened.layout.dtypes):
        return None, "integers of 64 bits would be rounded once and not twice"
    names = tuple(each.name for each in session.get_outputs())
    return OnnxBackend(session, opened.layout.with_dtype(dtype), inputs[0].name, names), ""
