"""ORC files: planning refuses a column with a code, or Spark reads its values exactly; a pipeline reads and publishes them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

import firesteel
from firesteel.conf.errors import InputNotReady, StorageError
from firesteel.conf.formats import format_of
from firesteel.jobs.run.direct import _arrow
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.jobs.spark.lower import _read
from firesteel.pipelines.plan.model import Column, SourcePlan
from firesteel.pipelines.planner.contract import check_columns, read_schema
from firesteel.pipelines.read import current_files
from firesteel.pipelines.storage.local import LocalStorage
from support.parquet_files import COLUMNS, DECLARED, as_declared
from support.scoring_project import DAY, MAPPED, ScoringProject, assert_same_rows

if TYPE_CHECKING:
    from pathlib import Path

    from firesteel.pipelines.planner.file_schema import FileSchema

pytestmark = pytest.mark.integration

_WRITTEN = (
    *("bool", "i8", "i16", "i32", "i64", "f32", "f64", "text", "large_text", "data", "fixed_data", "date"),
    *("ts_ms", "ts_us", "tz_us", "dec9", "dec18", "dec38", "list", "map", "struct"),
)
"""The columns that pyarrow writes as ORC."""


def orc_types(path: Path) -> FileSchema:
    return read_schema("rows", LocalStorage(), str(path), path.stat().st_size, "orc")


def by_spark(spark, path: Path, column: str, kind: str) -> pa.ChunkedArray:
    source = SourcePlan("rows", "orc", f"file://{path.parent}", (Column(column, kind),), ())
    return _read(spark, source, (path.name,)).toArrow().column(column)


@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "zstd"])
def test_what_planning_accepts_is_read_exactly_by_spark(spark, tmp_path, compression):
    """Dates before 1582 are excluded: ORC's calendar for them depends on the writer."""
    recent = [*range(2), 4]
    table = pa.table({name: COLUMNS[name].take(recent) for name in _WRITTEN})
    path = tmp_path / "rows.orc"
    orc.write_table(table, path, compression=compression)
    schema = orc_types(path)
    kinds = DECLARED if compression == "zlib" else ()
    read = 0
    for column in _WRITTEN:
        for kind in dict.fromkeys((schema.types[column], *kinds)):
            errors = check_columns("rows", {column: kind}, schema, str(path), others=True, says="the contract says")
            if errors:
                assert errors[0].code == "FS4003"
                assert kind != schema.types[column]
                continue
            expected = as_declared(table.column(column), _arrow([Column(column, kind)], "UTC").field(0).type)
            assert by_spark(spark, path, column, kind).to_pylist() == expected, (column, kind)
            read += 1
    assert read >= len(_WRITTEN)


def test_the_types_of_spark_are_those_of_its_own_files(spark, tmp_path):
    kinds = {
        "a": "tinyint", "b": "timestamp_ntz", "c": "timestamp", "d": "decimal(20,0)", "e": "array<struct<x:timestamp_ntz,y:string>>",
        "f": "map<string,binary>", "g": "struct<x:float,y:date>", "h": "boolean", "i": "double", "j": "bigint",
    }  # fmt: skip
    columns = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in kinds.items())
    spark.sql(f"SELECT {columns}").coalesce(1).write.orc(f"file://{tmp_path}/rows")
    (path,) = (tmp_path / "rows").glob("*.orc")
    assert orc_types(path).types == kinds
    value = dt.datetime(2024, 1, 1, 3, 4, 5, 678901)  # noqa: DTZ001
    spark.sql("SELECT TIMESTAMP_NTZ'2024-01-01 03:04:05.678901' AS b").coalesce(1).write.orc(f"file://{tmp_path}/two")
    (path,) = (tmp_path / "two").glob("*.orc")
    assert by_spark(spark, path, "b", "timestamp_ntz").to_pylist() == [value]


def test_a_file_that_is_no_orc_file_is_an_error_that_names_it(tmp_path):
    good = tmp_path / "good.orc"
    orc.write_table(pa.table({"x": [Decimal("1.5")]}), good)
    for name, content in {"empty.orc": b"", "text.orc": b"a,b\n" * 50, "cut.orc": good.read_bytes()[:-5]}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputNotReady, match=f"{name} is not a valid ORC file") as caught:
            orc_types(path)
        assert caught.value.code == "FS4003"


def test_columns_without_names_are_refused(tmp_path):
    """Spark would read the first column of the file for the first column of the plan, whatever its name."""
    path = tmp_path / "hive.orc"
    orc.write_table(pa.table({"_col0": [1], "_col1": [2]}), path)
    for expected in ({"_col1": "bigint"}, {"_col1": "bigint", "_col0": "bigint"}):
        errors = check_columns("rows", expected, orc_types(path), str(path), others=True, says="the contract says")
        assert [error.code for error in errors] == ["FS4003"] * len(expected)
        assert "column `_col1` is without a name" in errors[0].what
        assert str(path) in errors[0].what


@pytest.mark.parametrize("format_", ["parquet", "orc"])
def test_columns_that_were_reordered_widened_or_added_between_files_have_their_values(spark, tmp_path, format_):
    write = {"parquet": pq.write_table, "orc": orc.write_table}[format_]
    old = pa.table({"x": pa.array([1], pa.int32()), "r": pa.array([0.5], pa.float32()), "y": ["a"]})
    new = pa.table({"y": ["b"], "z": [9.5], "r": [0.1], "x": pa.array([1 << 40], pa.int64())})
    write(old, tmp_path / f"old.{format_}")
    write(new, tmp_path / f"new.{format_}")
    columns = (Column("y", "string"), Column("x", "bigint"), Column("r", "double"))
    source = SourcePlan("rows", format_, f"file://{tmp_path}", columns, ())
    for order in ("old", "new"), ("new", "old"):
        rows = _read(spark, source, tuple(f"{name}.{format_}" for name in order)).orderBy("y").collect()
        assert [tuple(row) for row in rows] == [("a", 1, 0.5), ("b", 1 << 40, 0.1)]
    path = tmp_path / f"old.{format_}"
    schema = read_schema("rows", LocalStorage(), str(path), path.stat().st_size, format_)
    (error,) = check_columns("rows", {"z": "double"}, schema, str(path), others=True, says="the contract says")
    assert f"column `z` is not in {path}; the contract says double" in error.what


@pytest.fixture
def project(tmp_path) -> ScoringProject:
    made = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    made.write_points(rows=60)
    return made


def test_a_pipeline_over_orc_publishes_the_rows_of_the_pipeline_over_parquet(spark, project, runs):
    assert run_plan(project.plan(operator="arrow"), spark=spark, runs=runs).state == "published"
    before = project.published()
    for path in sorted((project.folder / "data/points").rglob("*.parquet")):
        orc.write_table(pq.read_table(path, partitioning=None), path.with_suffix(".orc"))
        path.unlink()
    plan = replace(project, source="format: orc").plan()
    assert plan.steps[-1].operator_reason.startswith("not direct: points has the format orc")
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert_same_rows(project.published(), before)


@pytest.mark.parametrize(
    ("format_", "compression", "codec"),
    [("orc", "", "ZSTD"), ("orc", "gzip", "ZLIB"), ("parquet", "lz4", "LZ4"), ("parquet", "none", "UNCOMPRESSED")],
)
def test_a_sink_has_its_format_and_codec_whatever_the_operator(spark, project, runs, format_, compression, codec):
    keys = f"format: {format_}, compression: {compression}" if compression else f"format: {format_}"
    plan = replace(project, sink=keys).plan()
    assert plan.steps[-1].operator == ("direct" if format_ == "parquet" else "arrow")
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert dict(result.intervals[0].scoring)["operator"] == plan.steps[-1].operator
    files = current_files(project.sink_uri)
    assert files
    for file in files:
        path = file.removeprefix("file://")
        found = (
            orc.ORCFile(path).compression
            if format_ == "orc"
            else pq.read_metadata(path).row_group(0).column(0).compression
        )
        assert found == codec


def test_a_sink_in_orc_is_checked_counted_audited_and_read_as_one_in_parquet(spark, project, runs):
    drift = (
        "{type: drift, column: p, psi_max: 0.2}, {type: expect_column_values_to_be_between, column: p, min_value: 0}"
    )
    gates = f"gates: {{output_ok: {{on: 'sink:scores', expect: [{drift}]}}}}\n"
    results = {}
    for format_ in ("parquet", "orc"):
        plan = replace(project, sink=f"format: {format_}").plan(operator="arrow", gates=gates)
        results[format_] = run_plan(plan, spark=spark, runs=runs).intervals[0]
        rows = firesteel.read(spark, plan.sinks[0], [DAY]).orderBy("id").drop("_run_id", "_scored_at").collect()
        results[f"rows {format_}"] = [(row.id, row.c if row.c == row.c else "NaN", row.dt, row.origin) for row in rows]
        untyped = firesteel.read(spark, project.sink_uri, [DAY])
        assert {field.name: field.dataType.simpleString() for field in untyped.schema} == {
            column.name: column.type for column in plan.sinks[0].columns
        }
    parquet, in_orc = results["parquet"], results["orc"]
    assert in_orc.state == "published", in_orc.error
    assert in_orc.reason.startswith("changed since it was published: spec"), in_orc.reason
    assert (in_orc.counts, results["rows orc"]) == (parquet.counts, results["rows parquet"])
    assert [name for name, _ in in_orc.distributions] == ["p"]
    for (_, one), (_, other) in zip(in_orc.distributions, parquet.distributions, strict=True):
        assert one.pop("histogram") == other.pop("histogram")
        assert one == pytest.approx(other)
    audit = replace(project, sink="format: orc").plan(
        operator="arrow", gates=gates.replace("min_value: 0", "min_value: -1")
    )
    assert audit.intervals[0].action == "audit"
    result = run_plan(audit, spark=spark, runs=runs)
    assert result.intervals[0].state == "audited", result.error


def test_intervals_of_both_formats_are_read_as_one_data_set(spark, project, runs):
    """A reader sees the rows of intervals that an earlier version of the spec published."""
    for origin, format_ in (("JFK", "parquet"), ("L%2FX", "orc")):
        sql = MAPPED.replace("WHERE c", f"WHERE origin = '{'L/X' if '%' in origin else origin}' AND (c") + ")"
        plan = replace(project, sink=f"format: {format_}, mode: append_once").plan(operator="arrow", sql=sql)
        assert run_plan(plan, spark=spark, runs=runs).state == "published"
    assert {format_of(file) for file in current_files(project.sink_uri)} == {"parquet", "orc"}
    for sink in (plan.sinks[0], project.sink_uri):
        rows = firesteel.read(spark, sink)
        assert rows.groupBy("origin").count().count() == 2
        assert rows.where("origin = 'JFK' AND id IS NOT NULL AND p BETWEEN 0 AND 1").count() == 100


def test_staged_files_in_orc_are_counted_and_a_damaged_one_is_an_error_that_names_it(spark, tmp_path, monkeypatch):
    path = tmp_path / "part-0.orc"
    orc.write_table(pa.table({"x": [1, 2]}), path)
    files = StagedFiles.below(LocalStorage(), str(tmp_path))
    assert files.rows() == 2
    with monkeypatch.context() as patch:
        patch.setattr("firesteel.jobs.run.staged_files.MAX_FILES", 0)
        assert files.count(spark, f"file://{tmp_path}") == 2
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StorageError, match=r"part-0.orc is not a valid ORC file") as caught:
        StagedFiles.below(LocalStorage(), str(tmp_path)).rows()
    assert caught.value.code == "FS8006"
