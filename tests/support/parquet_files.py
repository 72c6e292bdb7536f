"""Parquet files of other writers, with the values that they contain."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

D = Decimal
_INSTANTS = [
    text and dt.datetime.fromisoformat(text)
    for text in ("2024-01-01T03:00:00.123456", None, "1969-12-31T23:59:59.999999", "1500-01-01", "2500-06-01T12:00")
]
_DATES = [dt.date(2024, 1, 1), None, dt.date(1, 1, 1), dt.date(1500, 1, 1), dt.date(9999, 12, 31)]
_NEAR = [*_INSTANTS[:3], None, _INSTANTS[0]]


def _millis(values: list[dt.datetime | None]) -> list[dt.datetime | None]:
    return [value and value.replace(microsecond=value.microsecond // 1000 * 1000) for value in values]


def _integers(bits: int, *, signed: bool) -> list[int | None]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return [low, None, high, 1, 0]


COLUMNS: dict[str, pa.Array] = {
    "bool": pa.array([True, None, False, True, False]),
    **{f"i{bits}": pa.array(_integers(bits, signed=True), getattr(pa, f"int{bits}")()) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": pa.array(_integers(bits, signed=False), getattr(pa, f"uint{bits}")()) for bits in (8, 16, 32, 64)},
    "f16": pa.array(np.array([1.5, 0, -2, 7, 0], np.float16)),
    "f32": pa.array([1.5, None, 0.1, float("nan"), float("-inf")], pa.float32()),
    "f64": pa.array([1.5, None, 0.1, float("nan"), float("-inf")]),
    "text": pa.array(["a", None, "é", "", "x" * 50]),
    "large_text": pa.array(["a", None, "é", "", "x"], pa.large_string()),
    "text_view": pa.array(["a", None, "é", "", "x"], pa.string_view()),
    "category": pa.array(["a", None, "a", "b", "b"]).dictionary_encode(),
    "data": pa.array([b"a", None, b"\xff", b"", b"x"]),
    "large_data": pa.array([b"a", None, b"\xff", b"", b"x"], pa.large_binary()),
    "fixed_data": pa.array([b"ab", None, b"\xffb", b"\0\0", b"xx"], pa.binary(2)),
    "nothing": pa.nulls(5),
    "date": pa.array(_DATES, pa.date32()),
    "date64": pa.array(_DATES, pa.date64()),
    "time_ms": pa.array([1, None, 3, 4, 5], pa.time32("ms")),
    "time_us": pa.array([1, None, 3, 4, 5], pa.time64("us")),
    "ts_ms": pa.array(_millis(_INSTANTS), pa.timestamp("ms")),
    "ts_us": pa.array(_INSTANTS, pa.timestamp("us")),
    "ts_ns": pa.array(_NEAR, pa.timestamp("ns")),
    "tz_ms": pa.array(_millis(_INSTANTS), pa.timestamp("ms", "UTC")),
    "tz_us": pa.array(_INSTANTS, pa.timestamp("us", "Europe/Berlin")),
    "tz_ns": pa.array(_NEAR, pa.timestamp("ns", "UTC")),
    "elapsed": pa.array([1, None, 3, 4, 5], pa.duration("us")),
    "dec9": pa.array([D("1.10"), None, D("-9999999.99"), D(0), D(1)], pa.decimal128(9, 2)),
    "dec18": pa.array([D("1.10"), None, D("-9.99"), D(0), D(1)], pa.decimal128(18, 2)),
    "dec38": pa.array([D("1.10"), None, D("-9.99"), D(0), D(1)], pa.decimal128(38, 2)),
    "dec50": pa.array([D("1.10"), None, D("-9.99"), D(0), D(1)], pa.decimal256(50, 2)),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16, None, b"b" * 16, b"c" * 16, None], pa.binary(16))),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None, "[1]", "1", "{}"])),
    "list": pa.array([[1, 2], None, [], [None], [3]], pa.list_(pa.int64())),
    "large_list": pa.array([["a"], None, [], [None], ["b"]], pa.large_list(pa.large_string())),
    "list_u8": pa.array([[1, 255], None, [], [None], [3]], pa.list_(pa.uint8())),
    "list_ns": pa.array([_NEAR, None, [], [], []], pa.list_(pa.timestamp("ns"))),
    "map": pa.array([[("a", 1)], None, [], [("b", None)], []], pa.map_(pa.string(), pa.int64())),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, None, None], pa.struct([("a", pa.int32()), ("b", pa.string())])),
    "struct_odd": pa.array([{"a b": 1}, None, None, None, None], pa.struct([("a b", pa.int64())])),
}  # fmt: skip
DECLARED = (
    "boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "binary", "date", "timestamp",
    "timestamp_ntz", "decimal(9,2)", "decimal(18,2)", "decimal(38,2)", "decimal(20,0)", "array<bigint>", "array<smallint>",
)  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"version": "1.0"},
    {"version": "2.4"},
    {"use_deprecated_int96_timestamps": True},
    {"store_schema": False},
    {"use_dictionary": False, "data_page_version": "2.0"},
    {"store_decimal_as_integer": True},
    {"use_compliant_nested_type": False, "compression": "gzip"},
    {"compression": "zstd", "row_group_size": 2},
    {"compression": "lz4", "write_statistics": False},
    {"compression": "none", "use_byte_stream_split": False, "row_group_size": 5},
    {"flavor": "spark"},
)


@dataclass(frozen=True)
class Written:
    """A file, the values that were written to it, and the writer."""

    path: Path
    table: pa.Table
    how: str


def written(folder: Path, count: int, seed: int = 0) -> Iterator[Written]:
    """Write `count` files of some columns each, with several writers."""
    chance = random.Random(seed)
    for number in range(count):
        names = chance.sample(list(COLUMNS), 8)
        table = pa.table({name: COLUMNS[name] for name in names})
        if chance.random() < 0.1:
            table = table.slice(0, 0)
        path = folder / f"f{number}.parquet"
        options = chance.choice(OPTIONS)
        try:
            pq.write_table(table, path, **options)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue  # a writer that refuses makes no file
        yield Written(path, table, str(options))


def by_pandas(path: Path) -> Written:
    """Write pandas' own types with an index by `DataFrame.to_parquet`."""
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int32"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "text": pd.Series(["a", None, "c"], dtype="string"),
            "object": ["a", None, "c"],
            "empty": [None, None, None],
            "category": pd.Categorical(["a", None, "a"]),
            "micros": pd.Series(
                pd.to_datetime(["2024-01-01", None, "2024-01-02 03:04:05.678901"], format="ISO8601")
            ).astype("datetime64[us]"),
            "nanos": pd.to_datetime(["2024-01-01", None, "2024-01-02"]),
        },
        index=pd.Index([5, 6, 7], name="key"),
    )
    frame.to_parquet(path)
    return Written(path, pa.Table.from_pandas(frame), "pandas")


def as_declared(values: pa.ChunkedArray, kind: pa.DataType) -> list[Any]:
    """Return the values in the Arrow type that Spark gives a declared type, by lossless casts."""
    found = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(found, pa.ExtensionArray):
        found = found.storage
    if pa.types.is_dictionary(found.type):
        found = found.dictionary_decode()
    if pa.types.is_duration(found.type) and pa.types.is_integer(kind):
        found = found.cast(pa.int64())
    if pa.types.is_timestamp(found.type) and pa.types.is_timestamp(kind) and found.type.tz is None and kind.tz:
        found = pc.assume_timezone(found.cast(pa.timestamp("us")), "UTC")
    return found.cast(kind).to_pylist()
