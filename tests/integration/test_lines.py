"""CSV, JSON lines and text: a row has the values that Python reads, or it is quarantined with its raw text. None is read as null."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import math
import re
from contextlib import suppress
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import InputNotReady, SpecErrors
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark.lower import _read, read_files_of_lines, read_unclosed_quotes, spark_errors
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import Column, SourcePlan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.quarantine import quarantined
from firesteel.pipelines.publish.verify import verify_excluded
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject, assert_same_rows

pytestmark = pytest.mark.integration

KINDS = {
    "i": "int", "t": "tinyint", "l": "bigint", "m": "decimal(6,2)", "d": "double", "s": "string", "f": "date",
    "b": "boolean", "n": "timestamp_ntz",
}  # fmt: skip
_RANGES = {"int": 31, "tinyint": 7, "bigint": 63}
_BAD = object()
Row = TypeVar("Row")


def rows_of(strategy: st.SearchStrategy[Row], count: int) -> list[Row]:
    """Return examples of a strategy, for one file: Spark reads a file of many rows as fast as one of few."""
    rows: list[Row] = []

    @settings(max_examples=count, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(strategy)
    def collect(row: Row) -> None:
        rows.append(row)

    collect()
    return rows


def source(folder: Path, format_: str, kinds: dict[str, str] = KINDS, **options: str) -> SourcePlan:
    columns = tuple(Column(name, kind) for name, kind in kinds.items())
    return SourcePlan(
        "rows", format_, f"file://{folder}", columns, (), file_columns=columns, options=tuple(options.items())
    )


def read(spark, plan: SourcePlan, *files: str) -> list[tuple[Any, ...]]:
    """The rows in the order of the file: their values, and the raw text of a row that cannot be parsed."""
    rows = read_files_of_lines(spark, plan, files).orderBy("_file", "_position").collect()
    return [(tuple(row[name] for name in plan_names(plan)), row["_record"]) for row in rows]


def plan_names(plan: SourcePlan) -> list[str]:
    return [column.name for column in plan.file_columns]


def number(text: str, kind: str) -> Any:
    """Whole numbers and decimals, from text."""
    if kind in _RANGES:
        if not re.fullmatch(r"[+-]?\d+", text):
            return _BAD
        return value if -(1 << _RANGES[kind]) <= (value := int(text)) < 1 << _RANGES[kind] else _BAD
    try:
        value = Decimal(text.replace(",", "")).quantize(Decimal("0.01"), ROUND_HALF_UP)
    except InvalidOperation:
        return _BAD
    return value if abs(value) < 10_000 else _BAD


def of_csv(text: str, kind: str) -> Any:
    """What a field of a CSV file means."""
    if text == "" or kind == "string":
        return text or None
    if kind in _RANGES or kind.startswith("decimal"):
        return number(text, kind)
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), _BAD)
    with suppress(ValueError):
        if kind == "double":
            return float(text) if text.isascii() else _BAD
        if kind == "date" and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return dt.date.fromisoformat(text)
        if kind == "timestamp_ntz" and re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?", text):
            return dt.datetime.fromisoformat(text)
    return _BAD


def of_json(value: Any, kind: str) -> Any:
    """What a value of a JSON object means; numbers are tokens."""
    if value is None:
        return None
    if kind == "string":
        return value if isinstance(value, str) else _BAD
    if kind == "boolean":
        return value if isinstance(value, bool) else _BAD
    if kind in _RANGES:
        return number(str(value), kind) if isinstance(value, int) and not isinstance(value, bool) else _BAD
    if kind == "double":
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _BAD
    if kind.startswith("decimal"):
        return number(str(value), kind) if isinstance(value, int | float) and not isinstance(value, bool) else _BAD
    return of_csv(value, kind) if isinstance(value, str) and value else _BAD


def same(one: Any, other: Any) -> bool:
    return one == other or (
        isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    )


_TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=6)
_WHOLE = {
    "i": st.integers(-(1 << 31), (1 << 31) - 1),
    "t": st.integers(-128, 127),
    "l": st.integers(-(1 << 63), (1 << 63) - 1),
}
_DAYS = st.dates(dt.date(1, 1, 1)).map(str)
_TIMES = st.datetimes(dt.datetime(1900, 1, 1)).map(str)  # noqa: DTZ001
_FIELDS = {
    **{name: values.map(str) for name, values in _WHOLE.items()},
    "m": st.decimals(-9_000, 9_000, places=3).map(str), "d": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "s": _TEXT, "f": _DAYS, "b": st.sampled_from(["true", "false", "TRUE"]), "n": _TIMES,
}  # fmt: skip
_ODD_TEXTS = (
    ["x", "1.5", "12:00", "2024-13-01", "2024-01-02 x", "2024-1-2", "yes", "-", "1 2", 'a"b', "a,b", "1e5x", "128", "-129",
     "2147483648", "-2147483649", "9223372036854775808", "9999.995", "10000", "2024-01-02 03:04:05.1234567", "\u0661"]
)  # fmt: skip
_ODD = st.sampled_from(_ODD_TEXTS)


@st.composite
def csv_rows(draw: st.DrawFn) -> list[str]:
    """One row of a CSV file: fields of their types, some of another, some too many or too few."""
    odd = draw(st.sampled_from([None] * 6 + [*KINDS]))
    row = [draw(_ODD) if name == odd else draw(field | st.just("")) for name, field in _FIELDS.items()]
    length = draw(st.sampled_from([len(row)] * 8 + [len(row) - 1, len(row) + 1]))
    return [*row, "9"][:length]


@pytest.mark.parametrize(("header", "delimiter"), [(True, ","), (False, ";")])
def test_csv_is_read_as_by_python_or_kept_as_text(spark, tmp_path, header, delimiter):
    each = [[text if name == odd else "" for name in KINDS] for odd in KINDS for text in _ODD_TEXTS]
    rows = [*each, *rows_of(csv_rows(), 200)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(KINDS)
    writer.writerows(rows)
    (tmp_path / "a.csv").write_text(text.getvalue(), encoding="utf-8")
    lines = text.getvalue().split("\n")[header:-1]
    found = read(spark, source(tmp_path, "csv", header=str(header).lower(), delimiter=delimiter), "a.csv")
    assert len(found) == len(rows)
    assert 0.2 < sum(record is None for _, record in found) / len(rows) < 0.8
    for (values, record), row, line in zip(found, rows, lines, strict=True):
        wanted = [of_csv(field, kind) for field, kind in zip(row, KINDS.values(), strict=False)]
        if len(row) != len(KINDS) or _BAD in wanted:
            assert record == line
        else:
            assert record is None, line
            assert all(map(same, values, wanted)), line


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    **_WHOLE, "m": st.integers(-9_999, 9_999), "d": st.floats(allow_infinity=False), "s": _TEXT, "f": _DAYS,
    "b": st.booleans(), "n": _TIMES,
}  # fmt: skip
_OTHER_VALUES = ["x", 1.5, [1], {"a": 1}, "12:00", "2024-01-02 x", "true", 128, 1 << 31, 1 << 63, 10_000, "2024-1-2"]
_BROKEN_LINES = (
    ['{"i": 1', "[]", '[{"i": 1}]', "5", "null", '"x"', '{"i": 1} x', '{"i": 1}{"i": 2}', '{"i": 1}}', '{"i": 1}]}', '{"i": 1},{"i": 2}',
     '{"i": 1},"rows":[{"i": 2}', "{'i': 1}", "{i: 1}", "x", '{"i": 01}', '{"i": 1,}']
)  # fmt: skip
_OTHER, _BROKEN = st.sampled_from(_OTHER_VALUES), st.sampled_from(_BROKEN_LINES)


@st.composite
def json_lines(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """One line, and the values that it must have, if it can be parsed."""
    if draw(st.integers(0, 9)) == 0:
        return draw(_BROKEN), [_BAD]
    odd = draw(st.sampled_from([None] * 6 + [name for name in KINDS if name != "s"]))
    names = draw(st.permutations(list(KINDS)))
    row = {
        name: draw(_OTHER) if name == odd else draw(_VALUES[name] | st.none())
        for name in names[draw(st.integers(0, 3)) :]
    }
    return json.dumps(row, ensure_ascii=draw(st.booleans())), [
        of_json(row.get(name), kind) for name, kind in KINDS.items()
    ]


def test_json_lines_are_read_as_by_python_or_kept_as_text(spark, tmp_path):
    each = [
        (json.dumps({odd: value}), [of_json(value if name == odd else None, kind) for name, kind in KINDS.items()])
        for odd in KINDS
        if odd != "s"
        for value in _OTHER_VALUES
    ]
    rows = [*each, *((line, [_BAD]) for line in _BROKEN_LINES), *rows_of(json_lines(), 200)]
    (tmp_path / "a.json").write_text("\n\n".join(line for line, _ in rows), encoding="utf-8")
    found = read(spark, source(tmp_path, "json"), "a.json")
    assert len(found) == len(rows)
    assert 0.2 < sum(record is None for _, record in found) / len(rows) < 0.8
    for (values, record), (line, wanted) in zip(found, rows, strict=True):
        if _BAD in wanted:
            assert record == line
        else:
            assert record is None, line
            assert all(map(same, values, wanted)), line


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "timestamp",
            ['"2024-01-02T03:04:05.5+01:00"', '"2024-01-02"', "null"],
            ["1700000000", "1700000000123", "1.5", '"5"', "true"],
        ),
        ("array<timestamp>", ['["2024-01-02 03:04"]', "[null]", "[]"], ["[1700000000]"]),
        ("struct<timestamp:timestamp,x:int>", ['{"timestamp": "2024-01-02", "x": 1}'], ['{"timestamp": 1, "x": 1}']),
        ("struct<timestamp:bigint>", ['{"timestamp": 1}'], ['{"timestamp": "x"}']),
    ],
)
def test_a_number_in_json_is_no_timestamp(spark, tmp_path, kind, good, bad):
    """Spark reads it as seconds since 1970: milliseconds become the year 55840."""
    (tmp_path / "a.json").write_text("".join(f'{{"t": {value}}}\n' for value in (*good, *bad)))
    rows = read_files_of_lines(spark, source(tmp_path, "json", {"t": kind}), ["a.json"])
    found = rows.orderBy("_position").select("_record").collect()
    assert [record for (record,) in found] == [None] * len(good) + [f'{{"t": {value}}}' for value in bad]


def test_bytes_that_are_no_text_and_lines_of_text(spark, tmp_path):
    (tmp_path / "a+b%20.json").write_bytes(b'{"s": "\xff"}\n{"s": "ok"}\n')
    plan = source(tmp_path, "json", {"s": "string"})
    assert [record is None for _, record in read(spark, plan, "a+b%20.json")] == [False, True]
    (file,) = {row["_file"] for row in read_files_of_lines(spark, plan, ["a+b%20.json"]).collect()}
    assert file.endswith("/a+b%20.json")
    (tmp_path / "a.txt").write_bytes(b"x\n\xffy\r\n\nz")
    plan = source(tmp_path, "text", {"value": "string"})
    assert [values[0] for values, record in read(spark, plan, "a.txt") if record is None] == ["x", "", "z"]
    assert [row.value for row in _read(spark, plan, ("a.txt",)).collect()] == ["x", "", "z"]


def test_a_view_has_the_parsed_rows_whatever_columns_are_read(spark, tmp_path):
    (tmp_path / "a.csv").write_text("1,2\nx,2\n1,x\n1\n")
    plan = source(tmp_path, "csv", {"a": "int", "b": "int"})
    for columns in (plan.columns, plan.columns[:1], plan.columns[1:]):
        frame = _read(spark, replace(plan, columns=columns), ("a.csv",))
        assert frame.count() == 1
        assert len(frame.collect()) == 1
        assert frame.where("true").select(columns[0].name).count() == 1


def test_compressed_empty_and_other_files_of_text(spark, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("1,é\n".encode()))
    (tmp_path / "b.csv").write_bytes(b"")
    plan = source(tmp_path, "csv", {"a": "int", "b": "string"})
    assert read(spark, plan, "a.csv.gz", "b.csv") == [((1, "é"), None)]
    (tmp_path / "c.csv").write_bytes('1;"é\n;"\n2;x\n'.encode("latin-1"))
    plan = replace(plan, options=(("encoding", "ISO-8859-1"), ("multiLine", "true"), ("sep", ";")))
    assert read(spark, plan, "c.csv") == [((1, "é\n;"), None), ((2, "x"), None)]
    (tmp_path / "d.csv").write_text("a|N/A|01.02.2024\n")
    options = (("nullValue", "N/A"), ("delimiter", "|"), ("dateFormat", "dd.MM.yyyy"))
    plan = replace(source(tmp_path, "csv", {"a": "string", "b": "int", "c": "date"}), options=options)
    assert read(spark, plan, "d.csv") == [(("a", None, dt.date(2024, 2, 1)), None)]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("a,x", "Expected: b but found: x"),
        ("b,a", "Expected: a but found: b"),
        ("a", "Header length: 1, schema size: 2"),
    ],
)
def test_a_header_with_other_columns_is_an_error_that_names_the_file(spark, tmp_path, header, says):
    (tmp_path / "a.csv").write_text(f"{header}\n1,2\n")
    plan = source(tmp_path, "csv", {"a": "int", "b": "int"}, header="true")
    with pytest.raises(InputNotReady, match="FS4003") as caught, spark_errors():
        read(spark, plan, "a.csv")
    assert says in str(caught.value)
    assert f"{tmp_path}/a.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "closed", "unclosed"),
    [
        (
            {},
            ['1,"x""y"', '1,5" pipe', '1,"x"y', '1,"x",3', '"1",""', "1,'x"],
            ['1,"x\n2,y', '1,"x\n2,y"', '"1,x', '1,"x""'],
        ),
        ({"delimiter": "||"}, ['1||"a||b"', '"1"||5"'], ['1||"x', '"1||x']),
        ({"delimiter": "\\t", "header": "true"}, ['a\tb\n1\t"x"'], ['a\tb\n1\t"x', 'a\t"b\n1\tx']),
        ({"escape": "\\"}, ['1,"x\\""', '1,"x\\\\"'], ['1,"x\\"', '1,"x']),
        ({"quote": "'", "comment": "#"}, ["1,'x'", '1,"x', "#1,'x"], ["1,'x"]),
        ({"quote": ""}, ['1,"x'], []),
        ({"maxColumns": "2"}, ['1,"x"'], ['1,"x']),
        ({"encoding": "ISO-8859-1"}, ['1,"é"'], ['1,"é']),
        (
            {"multiLine": "true"},
            ['1,"x\n2,y"\n3,z', '1,"x""\n""y"'],
            ['1,"x\n2,y\n3,z\n', '1,x\n2,"y\n3,"z"\n4,u', '1,x\n2,"y'],
        ),
        ({"multiLine": "true", "escape": "\\"}, ['1,"x\\"\ny"'], ['1,"x\\"\ny', '1,"x\\\\"\n2,"y']),
    ],
)
def test_a_quote_that_is_not_closed_is_found_in_any_dialect(spark, tmp_path, options, closed, unclosed):
    """Spark reads `1,"x` as the values 1 and x, and with `multiLine` the rest of the file as one value."""
    plan = source(tmp_path, "csv", {"a": "string", "b": "string"}, **options)
    for number, text in enumerate((*closed, *unclosed)):
        (tmp_path / f"{number} +%.csv").write_text(text, encoding=options.get("encoding", "utf-8"))
    good = [f"{number} +%.csv" for number in range(len(closed))]
    bad = [f"{number} +%.csv" for number in range(len(closed), len(closed) + len(unclosed))]
    found = {name: read_unclosed_quotes(spark, plan, [name]) for name in (*good, *bad)}
    assert {name: place[0] for name, place in found.items() if place} == {name: f"{plan.path}/{name}" for name in bad}


def as_lines(project: ScoringProject, format_: str) -> None:
    """Write the points as CSV or JSON lines."""
    for path in sorted(Path(project.root.removeprefix("file://")).glob("points/**/*.parquet")):
        rows = pq.read_table(path, partitioning=None).to_pylist()
        with path.with_suffix(f".{format_}").open("w", encoding="utf-8", newline="") as file:
            if format_ == "csv":
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(
                    {key: "NaN" if value != value else value for key, value in row.items()} for row in rows
                )
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        path.unlink()


@pytest.fixture
def project(tmp_path) -> ScoringProject:
    made = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    made.write_points(rows=60)
    return made


@pytest.mark.parametrize(("format_", "options"), [("csv", "options: {header: true}"), ("json", "")])
def test_rows_that_cannot_be_parsed_stop_the_run_or_are_quarantined(spark, project, runs, format_, options):
    assert run_plan(project.plan(operator="arrow"), spark=spark, runs=runs).state == "published"
    before = project.published()
    as_lines(project, format_)
    lines = replace(project, source=f"format: {format_}\n    {options}")
    result = run_plan(lines.plan(), spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert_same_rows(project.published(), before)
    assert result.counts.quarantined == 0

    bad = ["1,x,1,1", "1,2"] if format_ == "csv" else ['{"id": 1, "a": "x"}', '{"id": 1']
    path = project.folder / f"data/points/dt={DAY}/origin=JFK/part-1.{format_}"
    path.write_text(path.read_text() + "\n".join(bad) + "\n")
    result = run_plan(lines.plan(), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 4)
    assert result.error.startswith("FS4008"), result.error
    assert f"2 rows of 362 cannot be parsed as {format_.upper()}" in result.error
    assert f"`{bad[0]}` in file:" in result.error
    assert str(path) in result.error
    assert_same_rows(project.published(), before)

    for limit, published in (("max_fraction: 0.001", False), ("max_rows: 2", True)):
        some = replace(lines, source=f"{lines.source}\n    on_error: {{action: quarantine, {limit}}}")
        result = run_plan(some.plan(), spark=spark, runs=runs)
        assert (result.state == "published") is published, result.error
        assert published or f"on_error.{limit.partition(':')[0]} is" in result.error
    assert_same_rows(project.published(), before)
    assert (result.counts.quarantined, result.counts.balanced) == (2, True)
    active = [found for found in quarantined(project.store, {"scores": project.sink_uri}) if found.state == "active"]
    assert [(found.relation, found.run_id) for found in active] == [("points.unparsed", result.run_id)]
    (record,) = [each for each in Ledger(project.store).history("scores") if each.run_id == result.run_id]
    assert {status.path.removeprefix(f"{project.store.base}/") for status in active[0].files} <= {
        file.path for file in record.excluded
    }
    assert verify_excluded(project.store, {"scores": (None, None)}, now_s=0.0) == []
    rows = spark.read.parquet(f"{project.root}/_firesteel/points/quarantine/points.unparsed").where(
        f"run_id = '{result.run_id}'"
    )
    kept = rows.collect()
    assert sorted(row._record for row in kept) == sorted(bad)
    assert {row.origin for row in kept} == {"JFK"}
    assert {row._file for row in kept} == {f"file://{path}"}
    assert {reason for row in kept for reason in row._reasons} == {f"not {format_.upper()} of the declared types"}


def test_a_quote_that_is_not_closed_stops_the_run_also_with_a_quarantine(spark, project, runs):
    """Nothing says where the rows after it begin: `y",2` would be a row."""
    as_lines(project, "csv")
    path = project.folder / f"data/points/dt={DAY}/origin=JFK/part-1.csv"
    path.write_text(path.read_text() + '1,1,1,"1\n2,2,2,2\n')
    lines = replace(project, source="format: csv\n    options: {header: true}\n    on_error: {action: quarantine}")
    result = run_plan(lines.plan(), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 4)
    assert result.error.startswith("FS4008"), result.error
    assert 'a quote is not closed, at `1,1,1,"1` in file:' in result.error
    assert str(path) in result.error


def test_commands_that_publish_nothing_leave_the_rows_out_and_a_list_shows_them(spark, project, runs):
    as_lines(project, "json")
    path = project.folder / f"data/points/dt={DAY}/origin=JFK/part-1.json"
    path.write_text(path.read_text() + "{}}\n")
    project = replace(project, source="format: json\n    on_error: {action: quarantine}")
    assert run_plan(project.plan(), spark=spark, runs=runs).counts.quarantined == 1
    (row,) = json.loads(firesteel("quarantine", "ls", "--json", folder=project.folder).stdout)
    assert (row["relation"], row["rows"]) == ("points.unparsed", 1)
    assert row["reasons"] == {"not JSON of the declared types": 1}
    frame = Pipeline.load(project.folder / "pipeline.yaml").frame("points", DAY, spark=spark)
    assert frame.count() == 360
    gates = "gates: {after: {on: points, expect: [{type: expect_table_row_count_to_equal, value: 360}]}}\n"
    audit = run_plan(project.plan(gates=gates), spark=spark, runs=runs)
    assert (audit.intervals[0].state, audit.intervals[0].counts.quarantined) == ("audited", 1), audit.error
    assert len(quarantined(project.store, {"scores": project.sink_uri})) == 1


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("format: csv\n    options: {mode: DROPMALFORMED}", "`mode` is not an option of CSV sources; known: header, "),
        ("format: json\n    options: {multiLine: true}", "`multiLine` is not an option of JSON sources"),
        ("format: csv\n    options: {compression: gzip}", "Spark finds the compression by the name of the file"),
        ("format: csv\n    options: {encoding: UTF-16}", "`encoding: UTF-16` needs `multiLine: true`"),
        ("format: csv\n    options: {encoding: ut8}", "`encoding: ut8` is unknown"),
        ("options: {header: true}", "`header` is not an option of Parquet sources; known: none"),
        ("on_error: {action: quarantine}", "`on_error` is for CSV, JSON and text"),
        ("format: text", "text files have one column, `value: string`; found `id: bigint`"),
        ("format: csv\n    schema: id bigint", "`schema` and `contract.columns` both declare the columns"),
    ],
)
def test_a_spec_that_cannot_be_read_so_is_refused(project, keys, says):
    with pytest.raises(SpecErrors) as caught:
        replace(project, source=keys).plan()
    assert says in str(caught.value)
