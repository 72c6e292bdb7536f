"""Convert a model's prediction to Arrow columns, in row order and without changing a value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from firesteel.conf.errors import ModelError
from firesteel.udfs.casts import exact_cast
from firesteel.udfs.objects import build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firesteel.udfs.spec import Output

_INDEX = re.compile(r"\[(\d+)\]")


def outputs_to_arrow(
    prediction: Any, outputs: Sequence[Output], types: Sequence[pa.DataType], rows: int, model: str
) -> list[pa.Array]:
    """Return one Arrow array of `rows` values for each output.

    Values map to rows by position. If the index of a Series or frame is a permutation of the row numbers, values map by index. NaN
    becomes null.

    Raises
    ------
    ModelError
        FS3006 if the prediction does not have the shape that `select` requires. FS5002 if it does not have one value per row, or if a
        value does not fit the type. The cause is the model or the spec, not a row.
    """
    return [
        _column(_select(prediction, output, rows, model), output, kind, rows, model)
        for output, kind in zip(outputs, types, strict=True)
    ]


def _select(prediction: Any, output: Output, rows: int, model: str) -> Any:
    """Return the values of one output in row order."""
    if isinstance(prediction, pd.DataFrame):
        return _by_rows(_from_frame(prediction, output, model), rows)
    index = _INDEX.fullmatch(output.select)
    if index:
        return _at(prediction, int(index[1]), output, model)
    if output.select:
        if not isinstance(prediction, dict) or output.select not in prediction:
            raise _mismatch(model, output, prediction)
        return _by_rows(prediction[output.select], rows)
    if isinstance(prediction, dict):
        raise _mismatch(model, output, prediction)
    if isinstance(prediction, np.ndarray) and prediction.ndim == 2 and prediction.shape[1] == 1:
        return prediction[:, 0]
    return _by_rows(prediction, rows)


def _from_frame(frame: pd.DataFrame, output: Output, model: str) -> pd.Series[Any]:
    index = _INDEX.fullmatch(output.select)
    positions = (
        [int(index[1])]
        if index
        else [position for position, name in enumerate(frame.columns) if name == output.select]
        if output.select
        else range(frame.shape[1])
    )
    if len(positions) != 1 or positions[0] >= frame.shape[1]:
        raise _mismatch(model, output, frame)
    return frame.iloc[:, positions[0]]


def _at(prediction: Any, position: int, output: Output, model: str) -> Any:
    """Return column `position` of an array, or the value at `position` of each list."""
    if isinstance(prediction, list | tuple):
        columns = isinstance(prediction, tuple) and any(isinstance(item, np.ndarray | pd.Series) for item in prediction)
        if columns or any(np.ndim(row) > 1 for row in prediction if isinstance(row, np.ndarray)):
            raise _mismatch(model, output, prediction)  # several results instead of one per row
        if not all(isinstance(row, list | tuple | np.ndarray) and np.ndim(row) for row in prediction):
            raise _mismatch(model, output, prediction)
        if len({len(row) for row in prediction}) > 1 or any(position >= len(row) for row in prediction):
            raise _mismatch(model, output, prediction)
        return [row[position] for row in prediction]
    array = prediction if isinstance(prediction, np.ndarray) else _dense(prediction)
    if array is None or array.ndim < 2 or position >= array.shape[-1]:
        raise _mismatch(model, output, prediction)
    return array[..., position]


def _by_rows(values: Any, rows: int) -> Any:
    """Return the values in row order if their index is a permutation of the row numbers."""
    if not isinstance(values, pd.Series) or len(values) != rows or not pd.api.types.is_integer_dtype(values.index):
        return values
    if values.index.name is not None:
        return values  # a named index is a key of the data, not a row number
    numbers = values.index.to_numpy()
    order = np.argsort(numbers, kind="stable")
    expected = np.arange(rows)
    if np.array_equal(numbers, expected) or not np.array_equal(numbers[order], expected):
        return values
    return values.iloc[order]


def _column(values: Any, output: Output, kind: pa.DataType, rows: int, model: str) -> pa.Array:
    returned, values = values, _sequence(values)
    if isinstance(values, np.ndarray) and values.ndim > 1 and not pa.types.is_list(kind):
        raise _mismatch(model, output, values)
    if values is None or len(values) != rows:
        shape = f"{len(values):,} values" if values is not None else _shape(returned)
        raise ModelError(
            "FS5002",
            f"model {model} returned {shape} for output `{output.name}`, but the batch has {rows:,} rows.",
            hint="Return an array, a list, a Series or a frame with one value per row, also for a batch of one row.",
        )
    try:
        return exact_cast(_array(values, kind), kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        reason = str(error) if type(error) is ValueError else f"{_kind(values)} values do not fit this type"
        raise ModelError(
            "FS5002",
            f"model {model}: output `{output.name}` is declared {output.type}, but {reason}.",
            hint="Declare the type that the model returns.",
        ) from None


def _sequence(values: Any) -> Any | None:
    """Return values with a length and an order, or None for scalars, text, sets, generators and sparse matrices."""
    if isinstance(values, list | tuple | pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return values
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    array = values if isinstance(values, np.ndarray) else _dense(values)
    return array if array is not None and array.ndim else None


def _dense(values: Any) -> np.ndarray[Any, Any] | None:
    """Return a tensor as a numpy array, or None if numpy cannot read it."""
    if not hasattr(values, "__array__") or np.isscalar(values):
        return None
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # a tensor on a GPU, or with a gradient
        return None


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return the values as an Arrow array in new memory, because models reuse their buffers."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return _nan_as_null(pa.concat_arrays([values, values.slice(0, 0)]))
    if _are_objects(values):
        return build(list(values), kind)
    if isinstance(values, np.ndarray):
        if values.ndim > 1:
            flat = _array(values.reshape(-1, *values.shape[2:]), kind)
            return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.array(values.copy(), from_pandas=True)
    array = pa.array(values.copy(), from_pandas=True)
    return _nan_as_null(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)


def _are_objects(values: Any) -> bool:
    """Return whether the values are Python objects instead of one native type."""
    return isinstance(values, list | tuple) or values.dtype == object


def _nan_as_null(array: pa.Array) -> pa.Array:
    """Replace NaN by null in pandas and Arrow arrays, where `from_pandas` ignores it."""
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(array.offsets, _nan_as_null(array.values), mask=array.is_null())
    return array


def _mismatch(model: str, output: Output, prediction: Any) -> ModelError:
    declared = f"`{output.type} from {output.select}`" if output.select else f"`{output.type}`"
    return ModelError(
        "FS3006",
        f"model {model} returned {_shape(prediction)}, which does not match output {output.name} ({declared}).",
        hint="Write `TYPE from [INDEX]` for a column of an array, `TYPE from NAME` for a column of a frame.",
    )


def _shape(prediction: Any) -> str:
    if isinstance(prediction, pd.DataFrame):
        return f"a frame with columns {', '.join(map(str, prediction.columns))}"
    if isinstance(prediction, np.ndarray):
        return f"an array of shape {prediction.shape}"
    if isinstance(prediction, dict):
        return f"a mapping with keys {', '.join(map(str, prediction))}"
    if isinstance(prediction, list | tuple) and prediction:
        sizes = sorted({len(row) if hasattr(row, "__len__") else 0 for row in prediction})
        return f"a list of {type(prediction[0]).__name__} of lengths {', '.join(map(str, sizes[:5]))}"
    return f"a {type(prediction).__name__}"


def _kind(values: Any) -> str:
    return str(getattr(values, "dtype", None) or type(values).__name__)
