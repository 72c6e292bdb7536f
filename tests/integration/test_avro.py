"""Avro files of Avro's own library: planning takes the types of spark-avro from the header, or refuses a column with a code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import InputNotReady
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.planner.contract import check_columns, read_schema
from firesteel.pipelines.planner.file_schema import FileSchema
from firesteel.pipelines.storage.local import LocalStorage
from support.runs import firesteel
from support.scoring_project import ScoringProject, assert_same_rows

pytestmark = pytest.mark.integration

_JARS = sorted(Path.home().glob(".m2/repository/org/apache/spark/spark-avro_2.13/*/*.jar"))

_POINT = {"type": "record", "name": "Point", "namespace": "org.example", "fields": [
    {"name": "x", "type": "int"}, {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
]}  # fmt: skip
KINDS: dict[str, tuple[Any, str]] = {
    "flag": ("boolean", "boolean"),
    "i": ("int", "int"),
    "l": (["null", "long"], "bigint"),
    "f": ("float", "float"),
    "d": ({"type": "double"}, "double"),
    "s": (["string", "null"], "string"),
    "uuid": ({"type": "string", "logicalType": "uuid"}, "string"),
    "data": ("bytes", "binary"),
    "fixed": ({"type": "fixed", "name": "Fixed", "size": 4}, "binary"),
    "day": ({"type": "int", "logicalType": "date"}, "date"),
    "ms": ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp"),
    "us": (["null", {"type": "long", "logicalType": "timestamp-micros"}], "timestamp"),
    "local": ({"type": "long", "logicalType": "local-timestamp-micros"}, "timestamp_ntz"),
    "price": ({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}, "decimal(10,2)"),
    "whole": (
        {"type": "fixed", "name": "Whole", "size": 8, "logicalType": "decimal", "precision": 12},
        "decimal(12,0)",
    ),
    "tags": ({"type": "array", "items": ["null", "string"]}, "array<string>"),
    "counts": ({"type": "map", "values": "long"}, "map<string,bigint>"),
    "point": (_POINT, "struct<x:int,kind:string>"),
    "again": (["null", "org.example.Point"], "struct<x:int,kind:string>"),
    "kind": ("org.example.Kind", "string"),
    "number": (["int", "long"], "bigint"),
    "real": (["double", "float"], "double"),
    "either": (["null", "string", "int"], "struct<member0:string,member1:int>"),
}
REFUSED: dict[str, tuple[Any, str]] = {
    "nanos": ({"type": "long", "logicalType": "timestamp-nanos"}, "a timestamp in nanoseconds"),
    "clock": ({"type": "int", "logicalType": "time-millis"}, "a time of day"),
    "long": ({"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 2}, "a decimal of 50 digits"),
    "tree": (
        {"type": "record", "name": "Tree", "fields": [{"name": "left", "type": ["null", "Tree"]}]},
        "a recursive record",
    ),
}


def write_avro(spark, path: Path, schema: dict[str, Any], rows: Iterable[str] = (), codec: str = "deflate") -> None:
    """Write rows, in Avro's JSON encoding, by the library that pyspark contains."""
    avro = spark._jvm.org.apache.avro
    parsed = avro.Schema.Parser().parse(json.dumps(schema))
    writer = avro.file.DataFileWriter(avro.generic.GenericDatumWriter(parsed))
    writer.setCodec(avro.file.CodecFactory.fromString(codec))
    writer.create(parsed, spark._jvm.java.io.File(str(path)))
    reader = avro.generic.GenericDatumReader(parsed)
    for row in rows:
        writer.append(reader.read(None, avro.io.DecoderFactory.get().jsonDecoder(parsed, row)))
    writer.close()


def record(fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Row",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
        **more,
    }


def types_of(path: Path) -> FileSchema:
    return read_schema("rows", LocalStorage(), str(path), path.stat().st_size, "avro")


@pytest.mark.parametrize("codec", ["null", "zstandard"])
def test_the_header_has_the_types_of_the_columns(spark, tmp_path, codec):
    fields = {name: kind for name, (kind, _) in {**KINDS, **REFUSED}.items()}
    path = tmp_path / "rows.avro"
    write_avro(spark, path, record(fields, namespace="org.other", doc="long" * 50_000), codec=codec)
    assert path.stat().st_size > 200_000
    schema = types_of(path)
    assert {name: schema.types[name] for name in KINDS} == {name: kind for name, (_, kind) in KINDS.items()}
    assert schema.unreadable == {name: reason for name, (_, reason) in REFUSED.items()}
    (error,) = check_columns("rows", {"nanos": "bigint"}, schema, str(path), others=True, says="the contract says")
    assert "column `nanos` is a timestamp in nanoseconds" in error.what


def test_a_file_that_is_no_avro_file_is_an_error_that_names_it(spark, tmp_path):
    good = tmp_path / "good.avro"
    write_avro(spark, good, record({"x": "int"}), ['{"x": 1}'])
    whole = good.read_bytes()
    bad = {"empty.avro": b"", "text.avro": b"a,b\n" * 50, "cut.avro": whole[:40], "odd.avro": whole[:5] + b"\xff" * 40}
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputNotReady, match=f"{name} is not a valid Avro file") as caught:
            types_of(path)
        assert caught.value.code == "FS4003"


@pytest.fixture
def project(tmp_path) -> ScoringProject:
    """The points, which JSON can hold: without NaN."""
    made = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    made.write_points(rows=40, files=1)
    for path in (tmp_path / "data/points").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        values = table.column("c").to_pandas().to_numpy()
        pq.write_table(table.set_column(3, "c", pa.array(values, from_pandas=True)), path)
    return replace(made, source="format: avro")


def as_avro(spark, project: ScoringProject) -> None:
    """Write the points as Avro."""
    kinds = {"id": "long", "a": "double", "b": "int", "c": "double"}
    for path in sorted((project.folder / "data/points").rglob("*.parquet")):
        rows = pq.read_table(path, partitioning=None).to_pylist()
        lines = [
            json.dumps(
                {
                    name: value if value is None else {kinds[name]: "NaN" if value != value else value}
                    for name, value in row.items()
                }
            )
            for row in rows
        ]
        write_avro(
            spark, path.with_suffix(".avro"), record({name: ["null", kind] for name, kind in kinds.items()}), lines
        )
        path.unlink()


def test_a_session_without_the_package_is_an_error_that_names_it(spark, project, runs):
    as_avro(spark, project)
    result = run_plan(project.plan(), spark=spark, runs=runs)
    assert result.state == "failed"
    assert result.error.startswith("FS9004"), result.error
    assert f"org.apache.spark:spark-avro_2.13:{spark.version}" in result.error
    assert "spark.jars.packages" in result.error


@pytest.mark.long
@pytest.mark.skipif(
    not _JARS, reason="needs spark-avro: mvn dependency:get -Dartifact=org.apache.spark:spark-avro_2.13:VERSION"
)
def test_a_pipeline_over_avro_publishes_the_rows_of_the_pipeline_over_parquet(spark, project, runs):
    assert run_plan(replace(project, source="").plan(operator="arrow"), spark=spark, runs=runs).state == "published"
    before = project.published()
    as_avro(spark, project)
    project.plan(gates=f'configuration: {{"spark.jars": "{_JARS[-1]}"}}\n')
    done = firesteel("run", "--start", "2024-01-01", folder=project.folder)
    assert done.returncode == 0, done.stderr
    assert_same_rows(project.published(), before)
