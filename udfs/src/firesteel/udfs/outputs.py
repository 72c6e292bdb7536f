"""What a model returned -> Arrow columns: the value of each row on that row, and no value changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from firesteel.conf.errors import ModelError
from firesteel.udfs.casts import exact_cast

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
    """A tensor as a numpy array; None for what is none."""
    return np.asarray(values) if hasattr(values, "__array__") and not np.isscalar(values) else None


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Values in a type that Arrow chooses; where it cannot (mixed objects, maps), in the declared type."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.dtype != object:
        return pa.FixedSizeListArray.from_arrays(_array(values.reshape(-1, *values.shape[2:]), kind), values.shape[1])
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pa.array(values, from_pandas=True)
    if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray) and values.dtype != object:
        return pa.array(values, from_pandas=True)
    items = [_item(each, kind) for each in values]
    try:
        return pa.array(items, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array(items, _wide(kind), from_pandas=True)


def _item(value: Any, kind: pa.DataType) -> Any:
    """An object as Arrow takes it: arrays of several dimensions are lists, maps are pairs."""
    if isinstance(value, np.ndarray) and value.ndim > 1:
        value = list(value)
    if pa.types.is_map(kind) and isinstance(value, dict):
        return [(key, _item(item, kind.item_type)) for key, item in value.items()]
    if pa.types.is_list(kind) and isinstance(value, list | tuple | np.ndarray) and pa.types.is_nested(kind.value_type):
        return [_item(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        kinds = {field.name: field.type for field in kind}
        return {name: _item(item, kinds[name]) if name in kinds else item for name, item in value.items()}
    return value


def _wide(kind: pa.DataType) -> pa.DataType:
    """The type with doubles for floats: Arrow makes a float of a Python number that is too large for one."""
    if pa.types.is_float32(kind):
        return pa.float64()
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(_wide(kind.key_type), _wide(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _wide(field.type)) for field in kind])
    return kind


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
