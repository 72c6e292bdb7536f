"""What a model returned -> Arrow columns: the value of each row on that row, and no value changed."""

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
    """One Arrow array of `rows` values for each output.

    Values belong to rows by their position. A Series or frame whose index is a permutation of the rows' numbers belongs to
    them by its index. NaN is null, whatever container it comes in.

    Raises
    ------
    ModelError
        FS3006 when the prediction has not the shape that `select` asks for, FS5002 when it is not one value for each row or
        a value does not fit the type. Both are faults of the model or the spec, not of a row.
    """
    return [
        _column(_select(prediction, output, rows, model), output, kind, rows, model)
        for output, kind in zip(outputs, types, strict=True)
    ]


def _select(prediction: Any, output: Output, rows: int, model: str) -> Any:
    """The values of one output, in the order of the rows."""
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
    places = (
        [int(index[1])]
        if index
        else [place for place, name in enumerate(frame.columns) if name == output.select]
        if output.select
        else range(frame.shape[1])
    )
    if len(places) != 1 or places[0] >= frame.shape[1]:
        raise _mismatch(model, output, frame)
    return frame.iloc[:, places[0]]


def _at(prediction: Any, place: int, output: Output, model: str) -> Any:
    """Column `place` of an array, or the value at `place` of each list."""
    if isinstance(prediction, list | tuple):
        columns = isinstance(prediction, tuple) and any(isinstance(each, np.ndarray | pd.Series) for each in prediction)
        if columns or any(np.ndim(row) > 1 for row in prediction if isinstance(row, np.ndarray)):
            raise _mismatch(model, output, prediction)  # several results, and not a row each
        if not all(isinstance(row, list | tuple | np.ndarray) and np.ndim(row) for row in prediction):
            raise _mismatch(model, output, prediction)
        if len({len(row) for row in prediction}) > 1 or any(place >= len(row) for row in prediction):
            raise _mismatch(model, output, prediction)
        return [row[place] for row in prediction]
    array = prediction if isinstance(prediction, np.ndarray) else _dense(prediction)
    if array is None or array.ndim < 2 or place >= array.shape[-1]:
        raise _mismatch(model, output, prediction)
    return array[..., place]


def _by_rows(values: Any, rows: int) -> Any:
    """Values with an index that numbers the rows in another order, in the order of the rows."""
    if not isinstance(values, pd.Series) or len(values) != rows or not pd.api.types.is_integer_dtype(values.index):
        return values
    if values.index.name is not None:
        return values  # a key of the data and not the number of a row
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
        found = f"{len(values):,} values" if values is not None else _shape(returned)
        raise ModelError(
            "FS5002",
            f"model {model} returned {found} for output `{output.name}`, expected one value for each of {rows:,} rows.",
            hint="Return an array, a list, a Series or a frame with one value for each row, also where a batch has one row.",
        )
    try:
        return exact_cast(_array(values, kind), kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        reason = str(error) if type(error) is ValueError else f"{_kind(values)} values do not fit it"
        raise ModelError(
            "FS5002",
            f"model {model}: output `{output.name}` is declared {output.type}, and {reason}.",
            hint="Declare the type that the model returns.",
        ) from None


def _sequence(values: Any) -> Any | None:
    """Values that have a length and an order; None for scalars, text, sets, generators, sparse matrices."""
    if isinstance(values, list | tuple | pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return values
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    array = values if isinstance(values, np.ndarray) else _dense(values)
    return array if array is not None and array.ndim else None


def _dense(values: Any) -> np.ndarray[Any, Any] | None:
    """A tensor as a numpy array; None for what is none, and for tensors that numpy cannot read."""
    if not hasattr(values, "__array__") or np.isscalar(values):
        return None
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # it is on a GPU, or needs a gradient
        return None


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Values as Arrow, in memory of their own: models use their buffers again. Objects are built in the declared type."""
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
    found = pa.array(values.copy(), from_pandas=True)
    return _nan_as_null(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)


def _are_objects(values: Any) -> bool:
    """Whether values are Python objects, and not of one type that Arrow knows."""
    return isinstance(values, list | tuple) or values.dtype == object


def _nan_as_null(array: pa.Array) -> pa.Array:
    """NaN of pandas' and Arrow's own arrays, which `from_pandas` does not see."""
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(array.offsets, _nan_as_null(array.values), mask=array.is_null())
    return array


def _mismatch(model: str, output: Output, prediction: Any) -> ModelError:
    wanted = f"`{output.type} from {output.select}`" if output.select else f"`{output.type}`"
    return ModelError(
        "FS3006",
        f"output {output.name}: {wanted} does not fit what model {model} returned: {_shape(prediction)}.",
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
