"""Cast Arrow arrays without changing a value. A value that does not fit the type is an error.

Arrow's safe casts change some values: 1e300 becomes an infinite float, 2 becomes true, and a date loses its time of day.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def exact_cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the same values in another type. Only rounding to the nearest `float` may change a value.

    Raises
    ------
    ValueError
        Some values do not fit. The message quotes no values.
    """
    source = array.type
    if source == kind:
        return array
    if pa.types.is_null(source):
        return pa.nulls(len(array), kind)
    if pa.types.is_dictionary(source):
        return exact_cast(array.dictionary_decode(), kind)
    if pa.types.is_nested(source) or pa.types.is_nested(kind):
        return _nested(array, kind)
    try:
        return _flat(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ValueError(f"some {_name(source)} values do not fit {kind}") from error


def _nested(array: pa.Array, kind: pa.DataType) -> pa.Array:
    source = array.type
    if array.offset:
        return _nested(pa.concat_arrays([array, array.slice(0, 0)]), kind)  # a copy without offset
    if pa.types.is_fixed_size_list(source) or pa.types.is_large_list(source):
        return exact_cast(array.cast(pa.list_(source.value_type)), kind)
    missing = array.is_null()
    if pa.types.is_list(source) and pa.types.is_list(kind):
        return pa.ListArray.from_arrays(
            array.offsets, exact_cast(array.values, kind.value_type), type=kind, mask=missing
        )
    if pa.types.is_map(source) and pa.types.is_map(kind):
        keys, items = exact_cast(array.keys, kind.key_type), exact_cast(array.items, kind.item_type)
        return pa.MapArray.from_arrays(array.offsets, keys, items, type=kind, mask=missing)
    if pa.types.is_struct(source) and pa.types.is_struct(kind):
        names = {field.name for field in source}
        missing_fields = [field.name for field in kind if field.name not in names]
        if missing_fields:
            raise ValueError(f"the structs have no field {', '.join(missing_fields)}")
        children = [exact_cast(array.field(field.name), field.type) for field in kind]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=missing)
    raise ValueError(f"{_name(source)} values are not {kind}")


def _flat(array: pa.Array, kind: pa.DataType) -> pa.Array:
    source = array.type
    source_family, target_family = _family(source), _family(kind)
    if target_family == "boolean" and source_family in {"integer", "float"}:
        if not _all(pc.or_(pc.equal(array, 0), pc.equal(array, 1))):
            raise ValueError("some values are neither 0 nor 1")
        return array.cast(kind)
    if source_family == "float" and target_family == "float":
        cast = array.cast(kind)
        if not _all(pc.equal(pc.is_inf(array), pc.is_inf(cast))):
            raise ValueError(f"some values exceed the range of {kind}")
        return cast
    if source_family == "float" and target_family == "decimal":
        cast = array.cast(kind)
        if not _all(pc.equal(_of_decimals(cast, array.type), array)):
            raise ValueError(f"some values have more digits than {kind}")
        return cast
    if source_family == "decimal" and target_family == "float":
        return _of_decimals(array, kind)
    if source_family == "timestamp" and target_family == "timestamp":
        return _timestamps(array, kind)
    if source_family == "timestamp" and target_family == "date":
        cast = array.cast(kind)
        if array.type.tz or not _all(pc.equal(cast.cast(array.type), array)):
            raise ValueError("some values have a time of day")
        return cast
    if source_family == "date" and target_family == "timestamp":
        return _timestamps(array.cast(pa.timestamp(kind.unit)), kind)
    if source_family == target_family or (source_family, target_family) in _EXACT_IN_ARROW:
        return array.cast(kind)
    raise ValueError(f"{_name(source)} values are not {kind}")


def _of_decimals(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the nearest floats. Arrow's cast multiplies by powers of ten, which rounds 0.072 wrongly, so cast via text."""
    return array.cast(pa.string()).cast(kind)


def _timestamps(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast timestamps. Naive timestamps are local times of the target's zone."""
    if array.type.tz and not kind.tz:
        raise ValueError("the timestamps have a zone")
    if kind.tz and not array.type.tz:
        array = pc.assume_timezone(array, kind.tz, ambiguous="latest", nonexistent="raise")
    return array.cast(kind)


_EXACT_IN_ARROW = {
    ("integer", "float"), ("integer", "decimal"), ("integer", "string"), ("boolean", "integer"), ("boolean", "float"),
    ("float", "integer"), ("decimal", "integer"), ("string", "binary"), ("binary", "string"),
}  # fmt: skip
"""Casts between families in which Arrow rejects values that would change."""

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
    """Return whether the condition is true for all non-null values."""
    return pc.all(condition, min_count=0).as_py() is not False
