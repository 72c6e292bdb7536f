"""Convert Arrow tables to the pandas frames that `mlflow.pyfunc.spark_udf` passes to models, without loss of precision.

Spark converts an integer column with nulls to floats, which changes 2**53 + 1 to 2**53 (mlflow#3798). Here such a column becomes
pandas' nullable integers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

_NULLABLE_INTEGERS = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
}  # fmt: skip
_NARROW = {pa.int8(), pa.int16(), pa.int32(), pa.float32()}
"""Types that keep their width inside objects, because a signature's `float` does not accept a Python float."""


def to_pandas(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """Return the columns as a new pandas frame that shares no memory with the table.

    Returns
    -------
    A frame of `table.num_rows` rows with a `RangeIndex`.

    ==================== ============================================================================
    column               in the frame
    ==================== ============================================================================
    integers             numpy integers; pandas' nullable integers if a value is null
    floats               numpy floats of the same width, NaN for null
    booleans             numpy booleans; objects with None if a value is null
    timestamps           naive `datetime64[ns]` in the session's time zone, NaT for null; instants that
                         nanoseconds cannot represent (before 1677, after 2262) are `datetime64[us]`
    strings, binary,     objects, None for null
    decimals, dates
    arrays               numpy arrays; arrays of arrays of different lengths are lists of arrays
    structs, maps        dictionaries
    ==================== ============================================================================
    """
    data = {name: _series(table.column(name)) for name in columns}
    return pd.DataFrame(data, columns=list(columns), index=pd.RangeIndex(table.num_rows), copy=True)


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _series(pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type))
    if pa.types.is_nested(kind):
        items = [item for chunk in column.chunks for item in _objects(chunk)]
        return pd.Series(_object_array(items), dtype=object)
    if pa.types.is_timestamp(kind):
        return _naive(column).to_pandas()
    if column.null_count and kind in _NULLABLE_INTEGERS:
        return column.to_pandas(types_mapper=_NULLABLE_INTEGERS.get)
    return column.to_pandas(date_as_object=True)


def _naive(values: Any) -> Any:
    """Return local timestamps, in nanoseconds if these can represent all values."""
    local = pc.local_timestamp(values) if values.type.tz else values
    try:
        return local.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        return local


def _objects(array: pa.Array) -> list[Any]:
    """Return the values of a nested array as Python objects, with None for null."""
    kind = array.type
    valid = array.is_valid().to_pylist()
    if pa.types.is_map(kind):
        keys, items = _scalars(array.keys), _scalars(array.items)
        objects: list[Any] = [
            dict(zip(keys[start:stop], items[start:stop], strict=True)) for start, stop in _bounds(array)
        ]
    elif pa.types.is_struct(kind):
        fields = {kind.field(i).name: _scalars(array.field(i)) for i in range(kind.num_fields)}
        objects = [{name: values[row] for name, values in fields.items()} for row in range(len(array))]
    elif pa.types.is_fixed_size_list(kind):
        return _objects(array.cast(pa.list_(kind.value_type)))
    else:
        elements = _objects(array.values) if pa.types.is_nested(kind.value_type) else _elements(array.values)
        objects = [_array_of(elements[start:stop]) for start, stop in _bounds(array)]
    return [value if is_valid else None for value, is_valid in zip(objects, valid, strict=True)]


def _bounds(array: pa.Array) -> list[tuple[int, int]]:
    """Return the (start, stop) of each list or map in its child array."""
    offsets = array.offsets.to_pylist()
    return list(pairwise(offsets))


def _elements(child: pa.Array) -> np.ndarray[Any, Any]:
    """Return the elements of flat arrays in one numpy array. Integers and booleans become objects if one is null."""
    if pa.types.is_timestamp(child.type):
        child = _naive(child)
    values: np.ndarray[Any, Any] = child.to_pandas(date_as_object=True, integer_object_nulls=True).to_numpy()
    return values


def _array_of(elements: Any) -> Any:
    """Return a copy of one row's array."""
    if isinstance(elements, np.ndarray):
        return elements.copy()
    try:
        np.array(elements)  # as MLflow's enforcement, which rejects lists of different lengths
    except ValueError:
        return elements
    return _object_array(elements)


def _scalars(child: pa.Array) -> list[Any]:
    """Return fields of structs, or keys and values of maps, as Python values, with NaN for a null float."""
    if pa.types.is_nested(child.type):
        return _objects(child)
    if pa.types.is_timestamp(child.type):  # inside objects and maps, MLflow's enforcement accepts only numpy scalars
        return [None if np.isnat(value) else value for value in _naive(child).to_pandas().to_numpy()]
    values = child.to_pylist()
    if pa.types.is_floating(child.type):
        values = [float("nan") if value is None else value for value in values]
    if child.type in _NARROW:
        return [None if value is None else child.type.to_pandas_dtype()(value) for value in values]
    return values


def _object_array(items: list[Any]) -> np.ndarray[Any, Any]:
    """Return a one-dimensional object array."""
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array
