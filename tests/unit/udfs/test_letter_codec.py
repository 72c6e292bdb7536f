"""Rows of dead letters: every value comes back from JSON as it was, to the bit."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firesteel.udfs.dead_letter_codec import decode_rows, encode_row, type_names

DAYS = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-719_162, 2_932_896)
MICROS = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
ZONES = (None, "UTC", "America/New_York", "+05:30")


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    limit = 10**precision - 1
    return st.integers(-limit, limit).map(lambda digits: Decimal(digits).scaleb(-scale, _context(precision)))


def _context(precision: int):
    from decimal import Context

    return Context(prec=precision)


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


LEAVES: dict[pa.DataType, st.SearchStrategy] = {
    pa.bool_(): st.booleans(),
    pa.int8(): integers(8),
    pa.int16(): integers(16),
    pa.int32(): integers(32),
    pa.int64(): integers(64),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["\u2028", "\x85\r\n\x00\x1f", "NaN"]),
    pa.binary(): st.binary(max_size=9),
    pa.date32(): DAYS,
    pa.duration("us"): MICROS,
    pa.time64("ns"): st.integers(0, 86_399_999_999_999),
    **{pa.timestamp("us", zone): MICROS for zone in ZONES},
    **{pa.decimal128(p, s): decimals(p, s) for p, s in ((1, 0), (20, 3), (38, 38), (38, 0))},
}


@st.composite
def typed(draw, depth: int = 3) -> tuple[pa.DataType, st.SearchStrategy]:
    """A type and values of it, nulls among them at every level."""
    kinds = ["leaf"] if depth == 0 else ["leaf", "list", "struct", "map"]
    chosen = draw(st.sampled_from(kinds))
    if chosen == "leaf":
        kind, values = draw(st.sampled_from(list(LEAVES.items())))
    elif chosen == "list":
        inner, items = draw(typed(depth - 1))
        kind, values = pa.list_(inner), st.lists(items, max_size=3)
    elif chosen == "struct":
        names = draw(st.lists(st.sampled_from(["a", "A", "b c", "ü.x"]), min_size=1, unique=True))
        fields = {name: draw(typed(depth - 1)) for name in names}
        kind = pa.struct({name: field[0] for name, field in fields.items()})
        values = st.fixed_dictionaries({name: field[1] for name, field in fields.items()})
    else:
        inner, keys = draw(st.sampled_from(list(LEAVES.items())))
        item, items = draw(typed(depth - 1))
        kind, values = pa.map_(inner, item), st.lists(st.tuples(keys, items), max_size=3)
    return kind, st.none() | values


def bits(value: object) -> object:
    """A value in which floats are their bits, and every NaN is one: -0.0 is not 0.0."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, dict):
        return {name: bits(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [bits(each) for each in value]
    return value


def raw(kind: pa.DataType) -> pa.DataType:
    """The type with times as the integers that they are: Python's calendar ends."""
    if pa.types.is_struct(kind):
        return pa.struct({field.name: raw(field.type) for field in kind})
    if pa.types.is_map(kind):
        return pa.map_(raw(kind.key_type), raw(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(raw(kind.value_type))
    if pa.types.is_date32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_temporal(kind) else kind


def through_json(table: pa.Table) -> pa.Table:
    lines = "\n".join(
        json.dumps(encode_row(table, index), ensure_ascii=False, allow_nan=False) for index in range(table.num_rows)
    )
    return decode_rows([json.loads(line) for line in lines.encode().splitlines()], table.schema)


@settings(max_examples=400, derandomize=True)
@given(st.data())
def test_every_value_comes_back_to_the_bit(data):
    columns = [data.draw(typed()) for _ in range(data.draw(st.integers(1, 3)))]
    rows = data.draw(st.integers(1, 3))
    values = [[data.draw(strategy) for _ in range(rows)] for _, strategy in columns]
    names = [f"c{index}" for index in range(len(columns))]
    arrays = [pa.array(each, kind) for each, (kind, _) in zip(values, columns, strict=True)]
    table = pa.table(arrays, names=names)
    back = through_json(table)
    assert back.schema == table.schema
    for name, (kind, _) in zip(names, columns, strict=True):
        found, expected = (bits(each.column(name).cast(raw(kind)).to_pylist()) for each in (back, table))
        assert found == expected, kind


def test_people_can_read_them():
    row = {
        "at": datetime(2013, 3, 10, 2, 30, 0, 123457, tzinfo=UTC),
        "naive": datetime(1, 1, 1),  # noqa: DTZ001
        "day": date(1969, 12, 31),
        "amount": Decimal("1E-7"),
        "raw": b"\0\xff",
        "inf": -math.inf,
        "tags": [(1, "x")],
        "big": 2**53 + 1,
    }
    schema = pa.schema(
        {
            "at": pa.timestamp("us", "America/New_York"),
            "naive": pa.timestamp("us"),
            "day": pa.date32(),
            "amount": pa.decimal128(10, 8),
            "raw": pa.binary(),
            "inf": pa.float64(),
            "tags": pa.map_(pa.int32(), pa.string()),
            "big": pa.int64(),
        }
    )
    table = pa.Table.from_pylist([row], schema)
    assert encode_row(table, 0) == {
        "at": "2013-03-10T02:30:00.123457Z",
        "naive": "0001-01-01T00:00:00",
        "day": "1969-12-31",
        "amount": "0.00000010",
        "raw": "AP8=",
        "inf": "-Infinity",
        "tags": [[1, "x"]],
        "big": 9007199254740993,
    }
    assert type_names(schema) == {
        "at": "timestamp",
        "naive": "timestamp_ntz",
        "day": "date",
        "amount": "decimal(10,8)",
        "raw": "binary",
        "inf": "double",
        "tags": "map<int,string>",
        "big": "bigint",
    }


def test_a_dictionary_is_encoded_as_its_values():
    table = pa.table({"x": pa.array(["a", None, "a"]).dictionary_encode()})
    assert [encode_row(table, index)["x"] for index in range(3)] == ["a", None, "a"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", pa.struct({"a": pa.int8()})),
        ({"a": 1}, pa.list_(pa.int8())),
        ("AP8", pa.binary()),
        ("not a day", pa.date32()),
        ("many", pa.int64()),
    ],
)
def test_a_value_of_another_form_is_refused(value, kind):
    with pytest.raises((TypeError, ValueError, pa.ArrowException)):
        decode_rows([{"x": value}], pa.schema({"x": kind}))
