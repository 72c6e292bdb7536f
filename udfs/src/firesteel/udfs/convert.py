"""Arrow <-> pandas without loss: nullable integers stay integers.

Arrow's and Spark's default conversion makes an integer column with nulls a column of floats, where 2**53 + 1 silently
becomes 2**53 (mlflow#3798). Here such a column becomes pandas' own nullable integers, and only then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from firesteel.conf.errors import ModelError
from firesteel.udfs.spec import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}  # fmt: skip
_INDEX = re.compile(r"\[(\d+)\]")


def to_pandas(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """The columns as a pandas frame with a fresh index, n rows by len(columns).

    Integers and booleans are numpy arrays where no value is null and pandas' nullable types where one is; floats hold NaN
    for null; strings, decimals, dates and binary are objects with None for null; timestamps are datetime64. Integers inside
    arrays, maps and structs stay integers beside a null, as objects.
    """
    data = {}
    for name in columns:
        column = table.column(name)
        nullable = _NULLABLE.get(column.type) if column.null_count else None
        data[name] = (
            column.to_pandas(types_mapper=lambda _, dtype=nullable: dtype)
            if nullable
            else column.to_pandas(date_as_object=True, integer_object_nulls=pa.types.is_nested(column.type))
        )
    return pd.DataFrame(data, columns=list(columns), index=pd.RangeIndex(table.num_rows))


def outputs_to_arrow(
    prediction: Any, outputs: Sequence[Output], types: Sequence[pa.DataType], rows: int, model: str
) -> list[pa.Array]:
    """One Arrow array of `rows` values for each output.

    Raises
    ------
    ModelError
        FS3006 when the prediction has not the shape that `select` asks for, FS5002 when its values do not fit the type.
        Both are faults of the mapping, not of a row.
    """
    return [
        _column(_select(prediction, output, model), output, kind, rows, model)
        for output, kind in zip(outputs, types, strict=True)
    ]


def _select(prediction: Any, output: Output, model: str) -> Any:
    index = _INDEX.fullmatch(output.select)
    if index:
        array = np.asarray(prediction)
        if array.ndim < 2 or int(index[1]) >= array.shape[-1]:
            raise _mismatch(model, output, f"an array of shape {array.shape}")
        return array[..., int(index[1])]
    if output.select:
        try:
            return prediction[output.select]
        except (KeyError, IndexError, TypeError, ValueError):
            raise _mismatch(model, output, _shape(prediction)) from None
    if isinstance(prediction, pd.DataFrame):
        if prediction.shape[1] != 1:
            raise _mismatch(model, output, _shape(prediction))
        return prediction.iloc[:, 0]
    if isinstance(prediction, np.ndarray) and prediction.ndim == 2 and prediction.shape[1] == 1:
        return prediction[:, 0]
    if isinstance(prediction, dict):
        raise _mismatch(model, output, _shape(prediction))
    return prediction


def _column(values: Any, output: Output, kind: pa.DataType, rows: int, model: str) -> pa.Array:
    found = len(values) if hasattr(values, "__len__") else None
    if found != rows:
        what = f"{found} values for {rows} rows" if found is not None else f"a {type(values).__name__}"
        raise ModelError(
            "FS5002", f"model {model} returned {what} for `{output.name}`.", hint="A model returns one value a row."
        )
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values)
    try:
        return _array(values, kind).cast(kind, safe=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as first:
        raise ModelError(
            "FS5002",
            f"model {model}: `{output.name}` is declared {output.type}, and its values are {_kind(values)}: {type(first).__name__}.",
            hint="Declare the type that the model returns.",
        ) from None


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Values as Arrow sees them; Python objects that it cannot name by themselves (structs, mixed numbers) as `kind`."""
    try:
        return pa.array(values, from_pandas=not isinstance(values, np.ndarray) or values.dtype == object)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array(list(values), kind)


def _mismatch(model: str, output: Output, found: str) -> ModelError:
    wanted = f"`{output.type} from {output.select}`" if output.select else f"`{output.type}`"
    return ModelError(
        "FS3006",
        f"output {output.name}: {wanted} does not fit what model {model} returned: {found}.",
        hint="Write `TYPE from [INDEX]` for a column of an array, `TYPE from NAME` for a column of a frame.",
    )


def _shape(prediction: Any) -> str:
    if isinstance(prediction, pd.DataFrame):
        return f"a frame with columns {', '.join(map(str, prediction.columns))}"
    if isinstance(prediction, np.ndarray):
        return f"an array of shape {prediction.shape}"
    if isinstance(prediction, dict):
        return f"a mapping with keys {', '.join(map(str, prediction))}"
    return f"a {type(prediction).__name__}"


def _kind(values: Any) -> str:
    return str(getattr(values, "dtype", None) or type(values).__name__)
