"""Run ONNX models with one two-dimensional input on a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import NativeModel
    from firesteel.udfs.backends.matrix import Layout

_INPUTS = {"tensor(float)": ("float32", {"float32", "float64"}), "tensor(double)": ("float64", {"float64"})}
"""By input type: the dtype, and the frame dtypes that MLflow casts to it. MLflow only narrows."""


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
        """Return the feature matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """Return a frame of the flattened outputs, as MLflow does."""
        results = self.session.run(list(self.outputs), {self.input: batch})
        return pd.DataFrame(
            {name: np.asarray(values).reshape(-1) for name, values in zip(self.outputs, results, strict=True)}
        )


def onnx_backend(model: NativeModel) -> tuple[OnnxBackend | None, str]:
    """Return the backend, or None and the reason."""
    import onnxruntime

    assert model.layout is not None
    session = model.flavor
    if not isinstance(session, onnxruntime.InferenceSession):
        return None, f"{type(session).__name__} is not an ONNX Runtime session"
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 2:
        return None, "the model does not have exactly one two-dimensional input"
    dtype, frame_dtypes = _INPUTS.get(inputs[0].type, ("", set()))
    if model.layout.dtype not in frame_dtypes:
        return None, f"the model requires {inputs[0].type}, but the frame is {model.layout.dtype}"
    if dtype != model.layout.dtype and any(name.startswith("int64") for name in model.layout.dtypes):
        return None, "64-bit integers would round differently from the reference"
    names = tuple(output.name for output in session.get_outputs())
    return OnnxBackend(session, model.layout.with_dtype(dtype), inputs[0].name, names), ""
