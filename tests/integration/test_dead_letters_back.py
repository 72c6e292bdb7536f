"""Dead letters through Spark: what a task encodes is what a replay gives to Spark, whatever the session's time zone."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import RowErrorBudget
from firesteel.jobs.run.replay import read_dead_letters
from firesteel.pipelines.publish.dead_letters import DeadLetterFile
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.dead_letter_codec import encode_row, type_names

pytestmark = pytest.mark.integration

AT = datetime(2013, 3, 10, 2, 30, 0, 123457, tzinfo=UTC)
NAIVE = AT.replace(tzinfo=None)
COLUMNS = {
    "flag": ("boolean", pa.bool_(), [True, None, False]),
    "tiny": ("tinyint", pa.int8(), [-128, None, 127]),
    "big": ("bigint", pa.int64(), [2**53 + 1, None, -(2**63)]),
    "f": ("float", pa.float32(), [0.10000000149011612, None, -0.0]),
    "d": ("double", pa.float64(), [math.nan, math.inf, 5e-324]),
    "amount": ("decimal(38,18)", pa.decimal128(38, 18), [Decimal("12345678901234567890.123456789012345678"), None, 0]),
    "text": ("string", pa.string(), ['a"\n\u2028ü\x00\x1f', None, ""]),
    "raw": ("binary", pa.binary(), [b"\0\xff", None, b""]),
    "day": ("date", pa.date32(), [date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31)]),
    "at": ("timestamp", pa.timestamp("us", "UTC"), [AT, None, datetime(1, 1, 3, 0, 0, 0, 1, tzinfo=UTC)]),
    "naive": ("timestamp_ntz", pa.timestamp("us"), [NAIVE, None, NAIVE.replace(year=1)]),
    "nested": (
        "struct<X:double,y:timestamp,z:struct<n:timestamp_ntz,x:binary>>",
        pa.struct({"X": pa.float64(), "y": pa.timestamp("us", "UTC"), "z": pa.struct({"n": pa.timestamp("us"), "x": pa.binary()})}),
        [{"X": 1.5, "y": AT, "z": {"n": NAIVE.replace(year=1900), "x": b"\xff"}}, None, {"X": None, "y": None, "z": None}],
    ),
    "list": ("array<binary>", pa.list_(pa.binary()), [[b"\xff\0", None], None, []]),
    "times": ("array<timestamp>", pa.list_(pa.timestamp("us", "UTC")), [[AT, None], None, []]),
    "map": ("map<string,double>", pa.map_(pa.string(), pa.float64()), [[("a", 1.5), ("b", None)], None, []]),
    "days": ("map<date,array<timestamp>>", pa.map_(pa.date32(), pa.list_(pa.timestamp("us", "UTC"))), [[(date(1, 1, 1), [AT])], None, []]),
}  # fmt: skip


def encoded(frame):
    """The rows of a frame as tasks encode them."""

    def lines(batches):
        for batch in batches:
            table = pa.Table.from_batches([batch])
            dead_letters = [
                json.dumps({"row": encode_row(table, index), "types": type_names(table.schema)})
                for index in range(table.num_rows)
            ]
            yield pa.RecordBatch.from_pydict({"letter": dead_letters})

    return [row.letter for row in frame.mapInArrow(lines, "letter string").collect()]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_every_type_comes_back_as_it_was(spark, tmp_path, zone):
    schema = pa.schema([(name, kind) for name, (_, kind, _) in COLUMNS.items()])
    rows = [
        dict(zip(COLUMNS, row, strict=True)) for row in zip(*(values for _, _, values in COLUMNS.values()), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "rows.parquet")
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", zone)
    session.conf.set("spark.sql.parquet.datetimeRebaseModeInRead", "CORRECTED")
    ddl = ", ".join(f"`{name}` {kind}" for name, (kind, _, _) in COLUMNS.items())
    frame = session.read.schema(ddl).parquet(str(tmp_path / "rows.parquet"))
    (tmp_path / "run.jsonl").write_text("\n".join(encoded(frame)) + "\n", encoding="utf-8")
    storage, path = locate(f"file://{tmp_path}/run.jsonl")
    dead_letters = DeadLetterFile("scored", "2013-06-01", "run", path, 3, (), "1", open=True)
    back = session.createDataFrame(read_dead_letters(storage, (dead_letters,), frame.schema), frame.schema)
    assert back.schema == frame.schema
    assert repr(back.toArrow().to_pylist()) == repr(frame.toArrow().to_pylist())
    instants = pa.schema({"at": pa.int64()})
    written = pa.Table.from_pylist(rows, schema).select(["at"]).cast(instants)
    assert back.toArrow().select(["at"]).cast(instants).to_pylist() == written.to_pylist()


def test_letters_without_a_column_or_with_another_type_are_refused(spark, tmp_path):
    from pyspark.sql.types import StructType

    line = {"row": {"a": 1, "raw": "AP8="}, "types": {"a": "bigint", "raw": "binary"}}
    (tmp_path / "run.jsonl").write_text(json.dumps(line) + "\n")
    storage, path = locate(f"file://{tmp_path}/run.jsonl")
    dead_letters = (DeadLetterFile("scored", "2013-06-01", "run", path, 1, (), "1", open=True),)

    def read(ddl: str, **options):
        return read_dead_letters(storage, dead_letters, StructType.fromDDL(ddl), **options).to_pylist()

    assert read("a bigint, raw binary") == [{"a": 1, "raw": b"\0\xff"}]
    with pytest.raises(
        RowErrorBudget, match=r"FS5004 .* of run run .* `b` is missing, now double, `raw` is binary, now string"
    ):
        read("a bigint, b double, raw string")
    assert read("a bigint, b double", optional=frozenset({"b"})) == [{"a": 1, "b": None}]
    with pytest.raises(RowErrorBudget, match="FS5004"):
        read("a int", optional=frozenset({"a"}))
