"""Arrow tables -> the pandas frames that models see: what `mlflow.pyfunc.spark_udf` hands over, without its losses.

Spark's default conversion makes an integer column with nulls a column of floats, where 2**53 + 1 silently becomes 2**53
(mlflow#3798). Here such a column becomes pandas' own nullable integers, and only then.
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
"""Types whose values keep their width inside objects: a signature's `float` takes no Python float."""


def to_pandas(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """The columns as a new pandas frame that shares no memory with the table.

    Returns
    -------
    A frame of `table.num_rows` rows with a fresh index.

    ==================== ============================================================================
    column               in the frame
    ==================== ============================================================================
    integers             numpy integers; where a value is null, pandas' nullable integers
    floats               numpy floats of the same width, NaN for null
    booleans             numpy booleans; where a value is null, objects with None
    timestamps           naive `datetime64[ns]`: local time of the session's zone, NaT for null. Instants
                         that nanoseconds cannot hold (before 1677, after 2262) stay `datetime64[us]`
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
    """Timestamps as a clock of their zone shows them, in nanoseconds where these can hold them."""
    local = pc.local_timestamp(values) if values.type.tz else values
    try:
        return local.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        return local


def _objects(array: pa.Array) -> list[Any]:
    """The values of a nested array, one Python object each, None for null."""
    kind = array.type
    valid = array.is_valid().to_pylist()
    if pa.types.is_map(kind):
        keys, items = _scalars(array.keys), _scalars(array.items)
        found: list[Any] = [dict(zip(keys[a:b], items[a:b], strict=True)) for a, b in _bounds(array)]
    elif pa.types.is_struct(kind):
        fields = {kind.field(i).name: _scalars(array.field(i)) for i in range(kind.num_fields)}
        found = [{name: values[row] for name, values in fields.items()} for row in range(len(array))]
    elif pa.types.is_fixed_size_list(kind):
        return _objects(array.cast(pa.list_(kind.value_type)))
    else:
        elements = _objects(array.values) if pa.types.is_nested(kind.value_type) else _elements(array.values)
        found = [_array_of(elements[a:b]) for a, b in _bounds(array)]
    return [value if there else None for value, there in zip(found, valid, strict=True)]


def _bounds(array: pa.Array) -> list[tuple[int, int]]:
    """Where each list or map starts and stops in its child."""
    offsets = array.offsets.to_pylist()
    return list(pairwise(offsets))


def _elements(child: pa.Array) -> np.ndarray[Any, Any]:
    """The elements of flat arrays, all in one numpy array. Integers and booleans beside a null are objects."""
    if pa.types.is_timestamp(child.type):
        child = _naive(child)
    values: np.ndarray[Any, Any] = child.to_pandas(date_as_object=True, integer_object_nulls=True).to_numpy()
    return values


def _array_of(elements: Any) -> Any:
    """One row's array, in memory of its own."""
    if isinstance(elements, np.ndarray):
        return elements.copy()
    try:
        np.array(elements)  # MLflow's enforcement does the same, and refuses rows of different lengths
    except ValueError:
        return elements
    return _object_array(elements)


def _scalars(child: pa.Array) -> list[Any]:
    """Fields of structs, keys and values of maps: Python's own values, NaN for a float that is null."""
    if pa.types.is_nested(child.type):
        return _objects(child)
    if pa.types.is_timestamp(child.type):  # MLflow's enforcement takes numpy's scalars alone inside objects and maps
        return [None if np.isnat(value) else value for value in _naive(child).to_pandas().to_numpy()]
    found = child.to_pylist()
    if pa.types.is_floating(child.type):
        found = [float("nan") if value is None else value for value in found]
    if child.type in _NARROW:
        return [None if value is None else child.type.to_pandas_dtype()(value) for value in found]
    return found


def _object_array(items: list[Any]) -> np.ndarray[Any, Any]:
    """An array of one dimension, whatever the items are."""
    found = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        found[index] = item
    return found
