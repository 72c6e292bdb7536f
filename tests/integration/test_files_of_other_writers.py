"""Files of other writers: planning refuses a column with a code, or the direct scan and Spark read its values exactly."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.run.direct import _arrow
from firesteel.jobs.spark.lower import _read
from firesteel.pipelines.plan.model import Column, SourcePlan
from firesteel.pipelines.planner.contract import check_columns, read_schema
from firesteel.pipelines.planner.operator import _COPIED
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.udfs.direct.files import LocalFiles
from firesteel.udfs.direct.scan import scan
from firesteel.udfs.direct.spec import FileSystemSpec, ScanSpec, Split, TaskResult
from support.parquet_files import COLUMNS, DECLARED, Written, as_declared, by_pandas, written

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILES = 60
_UNREADABLE = {
    "f16",
    "time_ms",
    "time_us",
    "ts_ns",
    "tz_ns",
    "dec50",
    "uuid",
    "list_ns",
    "struct_odd",
    "nothing",
    "nanos",
    "empty",
}


def same(one: Any, other: Any) -> bool:
    """Equal, where NaN equals itself."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def accepted(file: Written, wanted: dict[str, str]) -> dict[str, str]:
    """The columns, of those that are declared, that planning lets pass. What it refuses has a code and names the file."""
    schema = read_schema("rows", LocalStorage(), str(file.path), file.path.stat().st_size)
    passed = {}
    for column, kind in wanted.items():
        errors = check_columns("rows", {column: kind}, schema, str(file.path), others=True, says="the contract says")
        for error in errors:
            assert error.code == "FS4003"
            assert file.path.name in error.what
            assert f"`{column}`" in error.what
        if not errors:
            passed[column] = kind
    return passed


def declared(file: Written, chance: random.Random) -> dict[str, str]:
    """A type for each column: the file's own, or any."""
    own = read_schema("rows", LocalStorage(), str(file.path), file.path.stat().st_size).types
    return {column: kind if chance.random() < 0.5 else chance.choice(DECLARED) for column, kind in own.items()}


def by_direct_scan(file: Written, kinds: dict[str, str]) -> pa.Table:
    """The columns by the direct scan."""
    schema = _arrow([Column(column, kind) for column, kind in kinds.items()], "UTC")
    spec = ScanSpec(FileSystemSpec("file"), str(file.path.parent), schema, ())
    tables = list(scan(LocalFiles(), spec, [Split(file.path.name, 0, 1 << 62)], TaskResult(None)))
    return pa.concat_tables(tables) if tables else schema.empty_table()


def by_spark(spark: SparkSession, file: Written, kinds: dict[str, str]) -> pa.Table:
    """The columns by Spark's reader, as the arrow and pandas operators get them."""
    columns = tuple(Column(column, kind) for column, kind in kinds.items())
    return _read(
        spark, SourcePlan("rows", "parquet", f"file://{file.path.parent}", columns, ()), (file.path.name,)
    ).toArrow()


def is_direct(kind: str) -> bool:
    return kind in _COPIED or kind.startswith("decimal(")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Written]:
    folder = tmp_path_factory.mktemp("written")
    return [*written(folder, FILES), by_pandas(folder / "pandas.parquet")]


def test_what_planning_accepts_is_read_exactly_by_the_direct_scan_and_by_spark(spark, files):
    chance = random.Random(1)
    read: set[str] = set()
    for file in files:
        kinds = accepted(file, declared(file, chance))
        if not kinds:
            continue
        table = by_spark(spark, file, kinds)
        direct_kinds = {column: kind for column, kind in kinds.items() if is_direct(kind)}
        direct = by_direct_scan(file, direct_kinds) if direct_kinds else None
        for column, kind in kinds.items():
            expected = as_declared(file.table.column(column), _arrow([Column(column, kind)], "UTC").field(0).type)
            assert same(table.column(column).to_pylist(), expected), (file.how, column, kind, "spark")
            if direct is not None and column in direct_kinds:
                assert same(direct.column(column).to_pylist(), expected), (file.how, column, kind, "direct")
            read.add(column)
    assert read >= set(COLUMNS) - _UNREADABLE


def test_a_column_that_nobody_reads_does_no_harm(spark, files):
    for file in files[:10]:
        kinds = accepted(file, declared(file, random.Random(2)))
        first = dict(list(kinds.items())[:1])
        if first and file.table.num_rows:
            assert by_spark(spark, file, first).num_rows == file.table.num_rows


def test_types_that_spark_has_not_are_refused_whatever_is_declared(files):
    for file in files:
        own = read_schema("rows", LocalStorage(), str(file.path), file.path.stat().st_size)
        for column in own.types:
            if column in _UNREADABLE - {"nothing", "empty", "ts_ns", "tz_ns", "list_ns", "nanos"}:
                for kind in DECLARED:
                    assert not accepted(file, {column: kind}), (file.how, column, kind)
            if own.types[column] == "timestamp" and column.startswith("ts_"):
                assert "int96" in file.how or "spark" in file.how, "no other writer makes an instant of a local time"


@pytest.mark.parametrize("operator", ["spark", "direct"])
def test_a_damaged_page_is_an_error_that_names_the_file(spark, tmp_path, operator):
    import pyarrow.parquet as pq
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    from firesteel.jobs.spark.lower import spark_fault

    path = tmp_path / "part-7.parquet"
    table = pa.table({"x": pa.array(range(5000), pa.int64())})
    pq.write_table(table, path)
    content = bytearray(path.read_bytes())
    content[10:2000] = b"\xff" * 1990
    path.write_bytes(content)
    file = Written(path, table, "damaged")
    try:
        by_spark(spark, file, {"x": "bigint"}) if operator == "spark" else by_direct_scan(file, {"x": "bigint"})
    except FiresteelError as error:
        found = error
    except (PySparkException, Py4JError) as error:
        found = spark_fault(error)
    assert found.code == "FS4003"
    assert "part-7.parquet" in found.what
