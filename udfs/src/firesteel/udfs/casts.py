"""Casts of Arrow arrays that never change a value: one that the type cannot hold is an error.

Arrow's safe casts let some pass: 1e300 becomes an infinite float, 2 becomes true, 23:59 is cut off a date.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def exact_cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values as another type. Rounding to the nearest `float` is allowed, another value is not.

    Raises
    ------
    ValueError
        What does not fit, in words that quote no value.
    """
    found = array.type
    if found == kind:
        return array
    if pa.types.is_null(found):
        return pa.nulls(len(array), kind)
    if pa.types.is_dictionary(found):
        return exact_cast(array.dictionary_decode(), kind)
    if pa.types.is_nested(found) or pa.types.is_nested(kind):
        return _nested(array, kind)
    try:
        return _flat(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ValueError(f"some {_name(found)} values do not fit {kind}") from error


def _nested(array: pa.Array, kind: pa.DataType) -> pa.Array:
    found = array.type
    if array.offset:
        return _nested(pa.concat_arrays([array, array.slice(0, 0)]), kind)  # a copy that starts at its first value
    if pa.types.is_fixed_size_list(found) or pa.types.is_large_list(found):
        return exact_cast(array.cast(pa.list_(found.value_type)), kind)
    missing = array.is_null()
    if pa.types.is_list(found) and pa.types.is_list(kind):
        return pa.ListArray.from_arrays(
            array.offsets, exact_cast(array.values, kind.value_type), type=kind, mask=missing
        )
    if pa.types.is_map(found) and pa.types.is_map(kind):
        keys, items = exact_cast(array.keys, kind.key_type), exact_cast(array.items, kind.item_type)
        return pa.MapArray.from_arrays(array.offsets, keys, items, type=kind, mask=missing)
    if pa.types.is_struct(found) and pa.types.is_struct(kind):
        names = {field.name for field in found}
        lacking = [field.name for field in kind if field.name not in names]
        if lacking:
            raise ValueError(f"the structs have no field {', '.join(lacking)}")
        children = [exact_cast(array.field(field.name), field.type) for field in kind]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=missing)
    raise ValueError(f"{_name(found)} values are not {kind}")


def _flat(array: pa.Array, kind: pa.DataType) -> pa.Array:
    found = array.type
    one, other = _family(found), _family(kind)
    if other == "boolean" and one in {"integer", "float"}:
        if not _all(pc.or_(pc.equal(array, 0), pc.equal(array, 1))):
            raise ValueError("some values are neither 0 nor 1")
        return array.cast(kind)
    if one == "float" and other == "float":
        cast = array.cast(kind)
        if not _all(pc.equal(pc.is_inf(array), pc.is_inf(cast))):
            raise ValueError(f"some values are beyond the range of {kind}")
        return cast
    if one == "float" and other == "decimal":
        cast = array.cast(kind)
        if not _all(pc.equal(_of_decimals(cast, array.type), array)):
            raise ValueError(f"some values have more digits than {kind}")
        return cast
    if one == "decimal" and other == "float":
        return _of_decimals(array, kind)
    if one == "timestamp" and other == "timestamp":
        return _timestamps(array, kind)
    if one == "timestamp" and other == "date":
        cast = array.cast(kind)
        if array.type.tz or not _all(pc.equal(cast.cast(array.type), array)):
            raise ValueError("some values have a time of day")
        return cast
    if one == "date" and other == "timestamp":
        return _timestamps(array.cast(pa.timestamp(kind.unit)), kind)
    if one == other or (one, other) in _KEEPS_THE_VALUE:
        return array.cast(kind)
    raise ValueError(f"{_name(found)} values are not {kind}")


def _of_decimals(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The nearest floats. By their text: Arrow's own cast multiplies by powers of ten, and 0.072 becomes another float."""
    return array.cast(pa.string()).cast(kind)


def _timestamps(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Naive ones are local time of the zone that is asked for; instants stay instants."""
    if array.type.tz and not kind.tz:
        raise ValueError("the timestamps have a zone")
    if kind.tz and not array.type.tz:
        array = pc.assume_timezone(array, kind.tz, ambiguous="latest", nonexistent="raise")
    return array.cast(kind)


_KEEPS_THE_VALUE = {
    ("integer", "float"), ("integer", "decimal"), ("integer", "string"), ("boolean", "integer"), ("boolean", "float"),
    ("float", "integer"), ("decimal", "integer"), ("string", "binary"), ("binary", "string"),
}  # fmt: skip
"""Casts between families that Arrow refuses by itself where a value would change."""

_FAMILIES = {
    "boolean": pa.types.is_boolean, "integer": pa.types.is_integer, "float": pa.types.is_floating,
    "decimal": pa.types.is_decimal, "date": pa.types.is_date, "timestamp": pa.types.is_timestamp,
}  # fmt: skip


def _family(kind: pa.DataType) -> str:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "binary"
    return next((name for name, belongs in _FAMILIES.items() if belongs(kind)), str(kind))


def _name(kind: pa.DataType) -> str:
    return "array" if pa.types.is_list(kind) else _family(kind) if not pa.types.is_nested(kind) else str(kind)


def _all(condition: Any) -> bool:
    """Whether it holds wherever there is a value."""
    return pc.all(condition, min_count=0).as_py() is not False
