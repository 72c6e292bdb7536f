"""Encode rows of dead letters as readable JSON, and decode them to the exact values.

==============================  ==========================================================================
Arrow                           JSON
==============================  ==========================================================================
integers, booleans, strings     the same; JSON numbers have any number of digits
floats                          a number; `"NaN"`, `"Infinity"`, `"-Infinity"`
decimals                        a string of digits
dates, timestamps               ISO 8601, instants in UTC with a final `Z`; outside the years 1 to 9999 an integer:
                                days, or microseconds, since 1970
other times and durations       an integer, in the type's unit
binary                          base64
lists, structs                  an array, an object
maps                            an array of `[key, value]` pairs, since keys may be of any type
==============================  ==========================================================================

A JSON string can represent several types, so a dead letter also holds the types of its columns.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

if TYPE_CHECKING:
    from pydantic import JsonValue

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the epoch in UTC
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_INFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode_row(table: pa.Table, index: int) -> dict[str, JsonValue]:
    """Return one row of a table as JSON values, by column."""
    return {name: encode(table.column(name)[index]) for name in table.column_names}


def type_names(schema: pa.Schema) -> dict[str, str]:
    """Return the Spark type of each column, without nullability and time zone."""
    from pyspark.sql.pandas.types import from_arrow_type

    return {field.name: from_arrow_type(field.type, prefer_timestamp_ntz=True).simpleString() for field in schema}


def decode_rows(rows: Sequence[Mapping[str, JsonValue]], schema: pa.Schema) -> pa.Table:
    """Return encoded rows as a table.

    Raises
    ------
    KeyError
        A row has no value for a column, or for a field of a struct.
    TypeError, ValueError
        A value does not match the type of its column.
    """
    columns = [pa.array([decode(row[field.name], field.type) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def encode(value: pa.Scalar) -> JsonValue:
    """Return an Arrow value as JSON."""
    kind = value.type
    if not value.is_valid:
        return None
    if types.is_dictionary(kind):
        return encode(value.value)
    if types.is_struct(kind):
        return {kind.field(index).name: encode(value[index]) for index in range(kind.num_fields)}
    if types.is_map(kind):
        return [[encode(entry[0]), encode(entry[1])] for entry in value.values]
    if types.is_nested(kind):
        return [encode(item) for item in value.values]
    if types.is_floating(kind):
        return _encode_float(float(value.as_py()))
    if types.is_decimal(kind):
        return f"{value.as_py():f}"
    if _is_binary(kind):
        return base64.b64encode(value.as_py()).decode()
    if types.is_temporal(kind):
        return _encode_time(value)
    plain: JsonValue = value.as_py()
    return plain


def decode(value: JsonValue, kind: pa.DataType) -> Any:
    """Return the Python value that Arrow converts into the encoded value of type `kind`."""
    if value is None:
        return None
    if types.is_struct(kind):
        return {field.name: decode(_mapping(value)[field.name], field.type) for field in kind}
    if types.is_map(kind):
        return [(decode(key, kind.key_type), decode(item, kind.item_type)) for key, item in _list(value)]
    if types.is_nested(kind):
        return [decode(item, kind.value_type) for item in _list(value)]
    if types.is_floating(kind):
        return _INFINITE[value] if isinstance(value, str) else value
    if types.is_decimal(kind):
        return Decimal(str(value))
    if _is_binary(kind):
        return base64.b64decode(str(value), validate=True)
    if types.is_temporal(kind) and isinstance(value, str):
        return _decode_time(value, kind)
    return value


def _encode_float(number: float) -> JsonValue:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _encode_time(value: pa.Scalar) -> JsonValue:
    """Return ISO text, or an integer if Python cannot represent the time or the unit is not days or microseconds."""
    kind, number = value.type, int(value.value)
    try:
        if types.is_date32(kind):
            return date.fromordinal(_EPOCH_DAY + number).isoformat()
        if types.is_timestamp(kind) and kind.unit == "us":
            return (_EPOCH + timedelta(microseconds=number)).isoformat() + ("Z" if kind.tz else "")
    except (OverflowError, ValueError):
        return number
    return number


def _decode_time(text: str, kind: pa.DataType) -> int:
    if types.is_date32(kind):
        return date.fromisoformat(text).toordinal() - _EPOCH_DAY
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _is_binary(kind: pa.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise TypeError("the value of a struct must be a JSON object")
    return value


def _list(value: JsonValue) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("the value of a list or a map must be a JSON array")
    return value
