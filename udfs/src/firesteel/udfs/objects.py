"""Convert Python objects to Arrow arrays of a declared type, exactly or with an error.

Arrow's conversion truncates digits and times, and accepts numbers as dates. Here Arrow infers the type of each group of objects, and
`exact_cast` casts it to the declared type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from firesteel.udfs.casts import exact_cast


def build(items: list[Any], kind: pa.DataType) -> pa.Array:
    """Return the items as an array of `kind`, with null for None, NaN, NaT and NA.

    Raises
    ------
    ValueError
        An item does not fit. The message quotes no values.
    """
    if pa.types.is_map(kind):
        return _maps(items, kind)
    if pa.types.is_list(kind):
        return _lists(items, kind)
    if pa.types.is_struct(kind):
        return _structs(items, kind)
    groups: dict[Any, list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault(_group(item), []).append(position)
    if len(groups) == 1:
        return _convert_group(items, next(iter(groups)), kind)
    parts = [
        _convert_group([items[position] for position in positions], group, kind) for group, positions in groups.items()
    ]
    order = np.argsort([position for positions in groups.values() for position in positions])
    return pa.concat_arrays(parts).take(pa.array(order))


def _group(item: Any) -> Any:
    """Return the group key of an item: its type, separate for datetimes with and without a zone, or None if it is missing."""
    if item is None or item is pd.NA or item is pd.NaT or (isinstance(item, float | np.floating) and math.isnan(item)):
        return None
    if isinstance(item, datetime):
        return "instants" if item.tzinfo is not None else "local times"
    return type(item)


def _convert_group(items: list[Any], group: Any, kind: pa.DataType) -> pa.Array:
    if group is None:
        return pa.nulls(len(items), kind)
    return exact_cast(pa.array(items, from_pandas=True), kind)


def _maps(items: list[Any], kind: pa.DataType) -> pa.Array:
    pairs = [None if _group(item) is None else _entries(item) for item in items]
    flat = [pair for entries in pairs for pair in entries or ()]
    keys, values = build([key for key, _ in flat], kind.key_type), build([value for _, value in flat], kind.item_type)
    if keys.null_count:
        raise ValueError("a map has a null key")
    return pa.MapArray.from_arrays(_offsets(pairs), keys, values, type=kind, mask=_missing(pairs))


def _entries(item: Any) -> list[tuple[Any, Any]]:
    if isinstance(item, Mapping):
        return list(item.items())
    if isinstance(item, list | tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in item):
        return list(item)
    raise ValueError(f"{type(item).__name__} values are not maps")


def _lists(items: list[Any], kind: pa.DataType) -> pa.Array:
    rows = [None if _is_missing(item) else _row(item) for item in items]
    present = [row for row in rows if row is not None]
    arrays = [row for row in present if isinstance(row, np.ndarray) and row.dtype != object and row.ndim == 1]
    if arrays and len(arrays) == len(present) and len({row.dtype for row in arrays}) == 1:
        values = exact_cast(pa.array(np.concatenate(arrays), from_pandas=True), kind.value_type)
    else:
        values = build([value for row in present for value in row], kind.value_type)
    return pa.ListArray.from_arrays(_offsets(rows), values, type=kind, mask=_missing(rows))


def _is_missing(item: Any) -> bool:
    return not isinstance(item, np.ndarray | list | tuple | pd.Series) and _group(item) is None


def _row(item: Any) -> Any:
    if isinstance(item, np.ndarray) and item.ndim:
        return item
    if isinstance(item, list | tuple | pd.Series):
        return list(item)
    raise ValueError(f"{type(item).__name__} values are not arrays")


def _structs(items: list[Any], kind: pa.DataType) -> pa.Array:
    missing = [_group(item) is None for item in items]
    present = [item for item, is_missing in zip(items, missing, strict=True) if not is_missing]
    if not all(isinstance(item, Mapping) for item in present):
        raise ValueError("values are not structs")
    missing_fields = [field.name for field in kind if present and not any(field.name in item for item in present)]
    if missing_fields:
        raise ValueError(f"the structs have no field {', '.join(missing_fields)}")
    children = [
        build(
            [None if is_missing else item.get(field.name) for item, is_missing in zip(items, missing, strict=True)],
            field.type,
        )
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=pa.array(missing, pa.bool_()))


def _offsets(rows: list[Any]) -> pa.Array:
    return pa.array(np.cumsum([0, *(0 if row is None else len(row) for row in rows)]), pa.int32())


def _missing(rows: list[Any]) -> pa.Array:
    return pa.array([row is None for row in rows], pa.bool_())
