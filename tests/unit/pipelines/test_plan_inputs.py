"""What an interval reads: every selected directory, every file of it, by one contract; or an error that names the path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import InputNotReady, SpecError, SpecErrors
from firesteel.conf.partitions import is_data, parse_directory, parse_value, value_text
from firesteel.jobs.run.stages import check_inputs
from firesteel.pipelines import Pipeline, Plan
from support.specs import FixedBackend

DAY = "2024-01-01"
ROWS = pa.table({"id": pa.array([1, 2], pa.int64()), "x": [1.0, 2.0]})


def put(root: Path, path: str, table: pa.Table = ROWS, **options: Any) -> Path:
    target = root / "rows" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target, **options)
    return target


def planned(
    root: Path,
    *,
    partitions: str = "dt: date",
    select: str = 'dt: "${interval.ds}"',
    more: str = "",
    columns: str | None = "id: bigint, x: double",
    mode: str = "enforce",
    sql: str = "SELECT dt, id FROM rows",
    unit: str = "day",
    by: str = "dt",
    start: str = DAY,
    end: str | None = None,
    gates: str = "",
    on_progress: Any = None,
) -> Plan:
    contract = f"    contract: {{mode: {mode}, columns: {{{columns}}}}}\n" if columns else ""
    text = f"""spec_version: 1
name: t
storage: "file://{root}/_fs"
interval: {{column: dt, unit: {unit}, begin: 2024-01-01}}
sources:
  rows:
    path: "file://{root}/rows"
    partitions: {{{partitions}}}
    select: {{{select}}}
{more}{contract}steps: {{s: {{sql: "{sql}"}}}}
sinks: {{out: {{from: s, path: "file://{root}/out", partition_by: [{by}]}}}}
{gates}"""
    (root / "pipeline.yaml").write_text(text, encoding="utf-8")
    pipeline = Pipeline.load(root / "pipeline.yaml", backend=FixedBackend())
    return pipeline.plan(start, end, **({"on_progress": on_progress} if on_progress else {}))


def paths(plan: Plan, interval: int = 0) -> list[str]:
    return [file.path for file in plan.intervals[interval].inputs[0].files]


def refused(code: str, root: Path, **options: Any) -> str:
    with pytest.raises((InputNotReady, SpecError)) as caught:
        planned(root, **options)
    assert caught.value.code == code
    return str(caught.value)


HOURS = {"partitions": "dt: date, hour: int", "select": 'dt: "${interval.ds}", hour: [5, "06"]'}


@pytest.mark.parametrize("form", ["5", "05", "+5"])
def test_a_selected_value_is_found_in_any_form_of_its_directory(tmp_path, form):
    put(tmp_path, f"dt={DAY}/hour={form}/p.parquet")
    put(tmp_path, f"dt={DAY}/hour=6/p.parquet")
    plan = planned(tmp_path, **HOURS)
    assert paths(plan) == sorted([f"dt={DAY}/hour={form}/p.parquet", f"dt={DAY}/hour=6/p.parquet"])
    assert plan.intervals[0].outputs[0].directories == (f"dt={DAY}",)


def test_the_sink_replaces_the_directories_that_spark_writes(tmp_path):
    put(tmp_path, f"dt={DAY}/hour=05/p.parquet")
    put(tmp_path, f"dt={DAY}/hour=06/p.parquet")
    plan = planned(tmp_path, **HOURS, sql="SELECT dt, hour, id FROM rows", by="dt, hour")
    assert plan.intervals[0].outputs[0].directories == (f"dt={DAY}/hour=5", f"dt={DAY}/hour=6")


def test_two_directories_of_one_value_are_refused(tmp_path):
    for form in ("5", "05", "6"):
        put(tmp_path, f"dt={DAY}/hour={form}/p.parquet")
    found = refused("FS4005", tmp_path, **HOURS)
    assert f"dt={DAY}/hour=05 and file://" in found
    assert f"dt={DAY}/hour=5 have the same value of `hour`" in found
    refused("FS4005", tmp_path, **{**HOURS, "select": 'dt: "${interval.ds}"'})


@pytest.mark.parametrize(
    ("on_missing", "outcome"), [("fail", "FS4002"), ("skip", "skip"), ("empty", [f"dt={DAY}/hour=6/p.parquet"])]
)
def test_on_missing_holds_at_every_level_whatever_the_days_marker_says(tmp_path, on_missing, outcome):
    put(tmp_path, f"dt={DAY}/hour=6/p.parquet")
    (tmp_path / "rows" / f"dt={DAY}" / "_SUCCESS").touch()
    options = {**HOURS, "more": f"    ready: {{}}\n    on_missing: {on_missing}\n"}
    if on_missing == "fail":
        assert f"rows/dt={DAY}/hour=5 is missing" in refused("FS4002", tmp_path, **options)
        return
    (interval,) = planned(tmp_path, **options).intervals
    assert (interval.action if outcome == "skip" else [file.path for file in interval.inputs[0].files]) == outcome


def test_an_hour_is_ready_by_its_own_marker(tmp_path):
    hourly = {
        "partitions": "dt: date, hr: int", "select": 'dt: "${interval.ds}", hr: "${interval.hour}"', "unit": "hour",
        "by": "dt, hr", "sql": "SELECT dt, hr, id FROM rows", "more": "    ready: {}\n", "start": f"{DAY}T05",
    }  # fmt: skip
    put(tmp_path, f"dt={DAY}/hr=05/p.parquet")
    (tmp_path / "rows" / f"dt={DAY}" / "_SUCCESS").touch()
    assert f"rows dt={DAY}/hr=05: _SUCCESS is missing (1 file present)" in refused("FS4001", tmp_path, **hourly)
    (tmp_path / "rows" / f"dt={DAY}" / "hr=05" / "_SUCCESS").touch()
    plan = planned(tmp_path, **hourly)
    assert paths(plan) == [f"dt={DAY}/hr=05/p.parquet"]
    assert plan.intervals[0].outputs[0].directories == (f"dt={DAY}/hr=5",)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"dt={DAY}/hour=x/p.parquet", "`x` is not an int"),
        (f"dt={DAY}/hour=99999999999/p.parquet", "is not an int"),
        (f"dt={DAY}/hour=1_0/p.parquet", "is not an int"),
        (f"dt={DAY}/hour=/p.parquet", "the value is empty"),
        (f"dt={DAY}/HOUR=7/p.parquet", "expected a directory named `hour=VALUE`"),
        (f"dt={DAY}/minute=7/p.parquet", "expected a directory named `hour=VALUE`"),
        (f"dt={DAY}/hour=5/minute=1/p.parquet", "is a partition level that is not in `partitions`"),
        ("dt=20240101/p.parquet", "`20240101` is not a date"),
        ("date=2024-01-01/p.parquet", "expected a directory named `dt=VALUE`"),
    ],
)
def test_what_the_spec_cannot_place_is_refused_with_its_path(tmp_path, path, says):
    for hour in (5, 6):
        put(tmp_path, f"dt={DAY}/hour={hour}/p.parquet")
    put(tmp_path, path)
    for select in (HOURS["select"], 'dt: "${interval.ds}"'):
        found = refused("FS4005", tmp_path, **{**HOURS, "select": select})
        assert says in found
        assert str(tmp_path / "rows" / path.removesuffix("/p.parquet")) in found


@pytest.mark.parametrize("beside", ["README.md", "archive/p.parquet", "latest"])
def test_what_is_no_partition_stands_beside_selected_directories_and_nowhere_else(tmp_path, beside):
    by_hour = {"partitions": "dt: date, hour: int", "sql": "SELECT dt, hour, id FROM rows"}
    for hour in (5, 6):
        put(tmp_path, f"dt={DAY}/hour={hour}/p.parquet")
    for folder in (tmp_path / "rows", tmp_path / "rows" / f"dt={DAY}"):
        if beside == "latest":
            (folder / beside).symlink_to(min(folder.iterdir()))
        else:
            (folder / beside).parent.mkdir(exist_ok=True)
            shutil.copy(tmp_path / "rows" / f"dt={DAY}/hour=5/p.parquet", folder / beside)
    assert len(paths(planned(tmp_path, **HOURS))) == 2
    found = refused("FS4005", tmp_path, **by_hour)
    assert f"rows/dt={DAY}/{beside.partition('/')[0]}: " in found
    assert "expected" in found


def test_a_day_is_missing_whatever_stands_beside_it(tmp_path):
    put(tmp_path, "2024-01-01/p.parquet")
    assert f"rows/dt={DAY} is missing" in refused("FS4002", tmp_path)


@pytest.mark.parametrize("marker", ["done", "READY", "_SUCCESS"])
def test_a_marker_of_any_name_is_no_data(tmp_path, marker):
    put(tmp_path, f"dt={DAY}/hour=5/p.parquet")
    for folder in ("", f"dt={DAY}", f"dt={DAY}/hour=5"):
        (tmp_path / "rows" / folder / marker).write_text("by hand")
    by_hour = {"partitions": "dt: date, hour: int", "sql": "SELECT dt, hour, id FROM rows"}
    plan = planned(tmp_path, **by_hour, more=f"    ready: {{marker: {marker}}}\n")
    assert paths(plan) == [f"dt={DAY}/hour=5/p.parquet"]
    check_inputs(plan, plan.intervals[0])


def test_a_data_file_that_makes_a_day_ready_is_read(tmp_path):
    put(tmp_path, f"dt={DAY}/all.parquet")
    assert paths(planned(tmp_path, more="    ready: {marker: all.parquet}\n")) == [f"dt={DAY}/all.parquet"]


@pytest.mark.parametrize("name", ["p.parquet._COPYING_", "p.parquet.tmp", "_temporary/0/p.parquet"])
@pytest.mark.parametrize("on_missing", ["fail", "empty"])
def test_a_partition_of_unfinished_files_alone_is_not_ready(tmp_path, name, on_missing):
    regions = {"partitions": "dt: date, region: string", "more": f"    on_missing: {on_missing}\n"}
    put(tmp_path, f"dt={DAY}/region=eu/p.parquet")
    put(tmp_path, f"dt={DAY}/region=us/{name}")
    put(tmp_path, f"dt={DAY}/{name}")
    found = refused("FS4001", tmp_path, **regions)
    assert f"rows dt={DAY}/region=us: file://{tmp_path}/rows/dt={DAY}/region=us/{name} is not finished" in found
    put(tmp_path, f"dt={DAY}/region=us/q.parquet")
    assert len(paths(planned(tmp_path, **regions))) == 2


def test_an_empty_partition_is_read_and_one_that_a_marker_calls_ready(tmp_path):
    folder = tmp_path / "rows" / f"dt={DAY}"
    folder.mkdir(parents=True)
    assert paths(planned(tmp_path)) == []
    for name in ("_SUCCESS", "p.parquet.tmp"):
        (folder / name).touch()
    assert paths(planned(tmp_path, more="    ready: {}\n")) == []


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        (b"dt=2024-01-01/r=eu/\xff.parquet", "FS4003", "r=eu/\\udcff.parquet has a name that is not UTF-8"),
        (b"dt=2024-01-01/r=\xff/p.parquet", "FS4005", "r=\\udcff: the name is not UTF-8"),
        (b"dt=2024-01-01/r=eu/\xff/p.parquet", "FS4005", "r=eu/\\udcff: the name is not UTF-8"),
        (b"dt=\xff/r=eu/p.parquet", "FS4005", "rows/dt=\\udcff: the name is not UTF-8"),
    ],
)
def test_names_that_are_not_utf_8_are_refused(tmp_path, path, code, says):
    put(tmp_path, f"dt={DAY}/r=eu/a.parquet")
    target = tmp_path / "rows" / os.fsdecode(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tmp_path / "rows" / f"dt={DAY}/r=eu/a.parquet", target)
    assert says in refused(code, tmp_path, partitions="dt: date, r: string")


@pytest.mark.parametrize("more", ["    on_missing: empty\n", ""])
def test_a_day_without_a_region_that_others_have_is_missing(tmp_path, more):
    layout = {"partitions": "region: string, dt: date", "sql": "SELECT dt, region, id FROM rows", "more": more}
    put(tmp_path, f"region=eu/dt={DAY}/p.parquet")
    put(tmp_path, "region=us/dt=2024-01-02/p.parquet")
    if more:
        assert paths(planned(tmp_path, **layout)) == [f"region=eu/dt={DAY}/p.parquet"]
    else:
        assert f"region=us/dt={DAY} is missing" in refused("FS4002", tmp_path, **layout)


def test_hidden_and_unfinished_files_are_not_read(tmp_path):
    put(tmp_path, f"dt={DAY}/_region=eu/p.parquet")
    for name in ("_temporary/p.parquet", ".p.parquet", "p.parquet._COPYING_", "p.parquet.tmp", "_SUCCESS"):
        put(tmp_path, f"dt={DAY}/_region=eu/{name}")
    plan = planned(tmp_path, partitions="dt: date, _region: string")
    assert paths(plan) == [f"dt={DAY}/_region=eu/p.parquet"]


def test_null_partitions_are_read_where_a_level_is_not_selected(tmp_path):
    put(tmp_path, f"dt={DAY}/hour=__HIVE_DEFAULT_PARTITION__/p.parquet")
    assert len(paths(planned(tmp_path, partitions="dt: date, hour: int"))) == 1


def test_a_selected_value_of_another_type_is_refused(tmp_path):
    put(tmp_path, f"dt={DAY}/p.parquet")
    with pytest.raises(SpecErrors, match=r"FS1004 .*`2024-01-01` .*which is not a value of the partition's type int"):
        planned(tmp_path, partitions="dt: int")


def test_a_directory_is_listed_once_for_all_intervals(tmp_path, monkeypatch):
    from firesteel.pipelines.storage.local import LocalStorage

    for day in range(1, 29):
        put(tmp_path, f"dt=2024-01-{day:02}/p.parquet")
    calls: list[str] = []
    listed = LocalStorage.list

    def counted(self, path):
        calls.append(path)
        return listed(self, path)

    monkeypatch.setattr(LocalStorage, "list", counted)
    planned(tmp_path, end="2024-01-28")
    assert calls.count(f"{tmp_path}/rows") == 1


@pytest.mark.parametrize("mode", ["enforce", "additive"])
def test_the_contract_is_held_against_the_older_files_too(tmp_path, mode):
    old = put(tmp_path, f"dt={DAY}/part-0.parquet", pa.table({"id": pa.array([1], pa.int64())}))
    os.utime(old, (1_700_000_000, 1_700_000_000))
    put(tmp_path, f"dt={DAY}/part-1.parquet")
    found = refused("FS4003", tmp_path, mode=mode)
    assert "column `x` is not in" in found
    assert "part-0.parquet" in found


def test_every_difference_is_named_once_for_each_schema(tmp_path):
    for number in range(20):
        put(tmp_path, f"dt={DAY}/a{number}.parquet", pa.table({"id": ["x"], "x": [1.0]}))
    put(tmp_path, f"dt={DAY}/b.parquet", pa.table({"id": pa.array([1], pa.int64()), "X": [1.0]}))
    found = refused("FS4003", tmp_path)
    assert found.count("column `id` is string") == 1
    assert "column `x` is not in" in found


UNDECLARED = {"columns": None, "sql": "SELECT * FROM rows"}


def column_types(plan: Plan) -> dict[str, str]:
    return {column.name: column.type for column in plan.sources[0].columns}


def test_columns_that_are_not_declared_are_those_of_all_files(tmp_path):
    put(
        tmp_path, f"dt={DAY}/a.parquet", pa.table({"id": pa.array([1], pa.int32()), "x": pa.array([1.0], pa.float32())})
    )
    put(tmp_path, f"dt={DAY}/b.parquet", pa.table({"id": pa.array([2], pa.uint32()), "x": pa.array([3], pa.int8())}))
    put(tmp_path, f"dt={DAY}/c.parquet", pa.table({"id": pa.array([2], pa.int8()), "x": [1.0], "DT": ["other"]}))
    assert column_types(planned(tmp_path, **UNDECLARED)) == {"id": "bigint", "x": "double"}


def test_undeclared_columns_of_two_kinds_name_two_files(tmp_path):
    put(tmp_path, f"dt={DAY}/a.parquet")
    put(tmp_path, f"dt={DAY}/b.parquet", pa.table({"id": pa.array([1], pa.int64()), "x": ["one"]}))
    found = refused("FS4003", tmp_path, **UNDECLARED)
    assert "column `x` is double in" in found
    assert "a.parquet and string in" in found
    assert "b.parquet" in found
    assert column_types(planned(tmp_path, columns=None)) == {"id": "bigint"}, "a column that nobody reads does no harm"


def test_an_undeclared_column_that_a_file_lacks_is_refused_where_it_is_read(tmp_path):
    put(tmp_path, f"dt={DAY}/a.parquet", pa.table({"id": pa.array([1], pa.int64())}))
    put(tmp_path, f"dt={DAY}/b.parquet")
    found = refused("FS4003", tmp_path, **UNDECLARED)
    assert "column `x` is not in" in found
    assert "a.parquet" in found
    assert column_types(planned(tmp_path, columns=None)) == {"id": "bigint"}


@pytest.mark.parametrize("sql", ["SELECT * FROM rows", "SELECT dt, id FROM rows"])
def test_a_missing_day_of_a_source_without_declared_columns_is_skipped(tmp_path, sql):
    put(tmp_path, f"dt={DAY}/p.parquet")
    options = {"columns": None, "sql": sql, "more": "    on_missing: skip\n", "end": "2024-01-02"}
    plan = planned(tmp_path, **options, start="2024-01-02")
    assert [interval.action for interval in plan.intervals] == ["skip"]
    assert plan == Plan.from_json(plan.to_json())
    plan_both = planned(tmp_path, **options)
    assert [interval.action for interval in plan_both.intervals] == ["score", "skip"]
    assert plan_both.code_hash == plan.code_hash


def test_rows_that_a_gate_keeps_aside_are_read_whole(tmp_path):
    put(tmp_path, f"dt={DAY}/a.parquet", pa.table({"id": ROWS["id"], "new": ["a", "b"]}))
    put(tmp_path, f"dt={DAY}/b.parquet", pa.table({"id": ROWS["id"]}))
    options = {"columns": None, "sql": STAR.format("SELECT * FROM rows")}
    gate = "gates: {g: {on: rows, expect: [{type: expect_column_values_to_not_be_null, column: id, on_fail: %s}]}}\n"
    assert len(paths(planned(tmp_path, **options, gates=gate % "fail"))) == 2
    assert "column `new` is not in" in refused("FS4003", tmp_path, **options, gates=gate % "quarantine")


STAR = "WITH s AS ({}) SELECT dt, id FROM s"
"""Reads no column but `id`, whatever the SELECT within it passes on."""


def test_a_column_that_a_star_passes_on_to_nobody_does_no_harm(tmp_path):
    nanoseconds = pa.array([1, 2], pa.timestamp("ns"))
    put(tmp_path, f"dt={DAY}/a.parquet", pa.table({**dict(zip(["id", "x"], ROWS, strict=True)), "new": ["a", "b"]}))
    put(tmp_path, "dt=2024-01-02/a.parquet", pa.table({"id": ROWS["id"], "x": ["one", "two"], "at": nanoseconds}))
    options = {"columns": None, "sql": STAR.format("SELECT *, id + 1 AS y FROM rows"), "end": "2024-01-02"}
    plan = planned(tmp_path, **options)
    assert plan.sources[0].read == ("id",)
    assert column_types(plan) == {"id": "bigint"}
    assert set(column_types(planned(tmp_path, **{**options, "end": DAY}))) == {"id", "x", "new"}
    for name in ("x", "at"):
        assert f"column `{name}` is" in refused(
            "FS4003", tmp_path, **{**options, "sql": f"SELECT dt, {name} FROM rows"}
        )
    assert "column `new` is not in" in refused("FS4003", tmp_path, **{**options, "sql": "SELECT dt, new FROM rows"})


@pytest.mark.parametrize(
    "inner",
    [
        "SELECT *, at IS NULL AS y FROM rows",
        "SELECT * EXCEPT (at) FROM rows",
        "SELECT *, struct(*) AS y FROM rows",
        "SELECT rows.* FROM rows JOIN (SELECT * FROM rows UNION ALL SELECT * FROM rows) AS r ON rows.id = r.id",
        "SELECT DISTINCT * FROM rows",
        "SELECT * FROM rows WHERE at IS NOT NULL",
        "SELECT dt, id, at AS unused FROM rows",
    ],
)
def test_a_view_has_each_column_that_a_select_may_need(tmp_path, inner):
    put(tmp_path, f"dt={DAY}/a.parquet", pa.table({"id": ROWS["id"], "at": pa.array([1, 2], pa.timestamp("ns"))}))
    assert "column `at` is" in refused("FS4003", tmp_path, columns=None, sql=STAR.format(inner))


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([1, 2], pa.timestamp("ns")), "is a timestamp in nanoseconds"),
        (pa.array([1, 2], pa.time64("us")), "is a time of day"),
        (pa.nulls(2), "has only nulls and no type"),
        (pa.array([[1], [2]], pa.list_(pa.timestamp("ns"))), "is a timestamp in nanoseconds"),
        (pa.array([{"a b": 1}, None]), "is a struct with the field `a b`"),
    ],
)
def test_a_type_that_spark_has_not_is_refused_where_it_is_read(tmp_path, column, says):
    put(tmp_path, f"dt={DAY}/a.parquet", pa.table({"id": pa.array([1, 2], pa.int64()), "odd": column}))
    found = refused("FS4003", tmp_path, **UNDECLARED)
    assert f"column `odd` {says} in" in found.replace(" in file:", " in file:")
    assert "a.parquet" in found
    assert column_types(planned(tmp_path, columns=None)) == {"id": "bigint"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"PAR1", "is not a valid Parquet file"),
        (None, "is not a valid Parquet file"),
    ],
)
def test_a_file_that_is_cut_is_named_however_old_it_is(tmp_path, content, says):
    put(tmp_path, f"dt={DAY}/b.parquet")
    old = put(tmp_path, f"dt={DAY}/a.parquet")
    old.write_bytes(old.read_bytes()[:-20] if content is None else content)
    os.utime(old, (1_700_000_000, 1_700_000_000))
    found = refused("FS4003", tmp_path)
    assert says in found
    assert "a.parquet" in found


def test_names_and_codecs_that_spark_cannot_open_are_refused(tmp_path):
    path = put(tmp_path, f"dt={DAY}/10:30.parquet")
    assert "has a `:` in its name" in refused("FS4003", tmp_path)
    path.unlink()
    put(tmp_path, f"dt={DAY}/a.parquet", compression="brotli")
    assert "compressed with BROTLI" in refused("FS4003", tmp_path)


@pytest.mark.parametrize("mode", ["enforce", "additive"])
@pytest.mark.parametrize("name", ["dt", "DT"])
def test_a_partition_column_may_be_in_the_files_too(tmp_path, mode, name):
    put(tmp_path, f"dt={DAY}/a.parquet", pa.table({"id": ROWS["id"], "x": ROWS["x"], name: ["elsewhere"] * 2}))
    assert len(paths(planned(tmp_path, mode=mode))) == 1


def test_a_link_to_nothing_is_refused_where_it_would_be_data(tmp_path):
    folder = put(tmp_path, f"dt={DAY}/a.parquet").parent
    for name in ("b.parquet", "_c.parquet"):
        (folder / name).symlink_to(tmp_path / "gone.parquet")
    found = refused("FS4003", tmp_path)
    assert f"{folder}/b.parquet is a link to a file that does not exist" in found
    assert "more.)" not in found
    (folder / "b.parquet").unlink()
    assert len(paths(planned(tmp_path))) == 1
    (tmp_path / "rows" / "latest").symlink_to(tmp_path / "gone")
    assert len(paths(planned(tmp_path))) == 1
    (tmp_path / "rows" / "dt=2024-01-02").symlink_to(tmp_path / "gone")
    assert "dt=2024-01-02: found a file, expected" in refused("FS4005", tmp_path)


def test_footers_are_read_once_in_a_process_and_again_when_a_file_changes(tmp_path):
    path = put(tmp_path, f"dt={DAY}/a.parquet")
    planned(tmp_path)
    size, times = path.stat().st_size, path.stat().st_mtime_ns
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(times, times))
    planned(tmp_path)
    os.utime(path, ns=(times, times + 5_000_000_000))
    refused("FS4003", tmp_path)


def test_footers_are_reported_as_progress(tmp_path):
    for name in "abc":
        put(tmp_path, f"dt={DAY}/{name}.parquet")
    seen = []
    planned(tmp_path, on_progress=lambda *event: seen.append(event))
    assert [event for event in seen if event[0] == "footers"] == [("footers", number, 3) for number in (1, 2, 3)]


def test_a_source_that_is_not_there_is_missing(tmp_path):
    put(tmp_path, f"dt={DAY}/a.parquet")
    shutil.rmtree(tmp_path / "rows")
    for on_missing, action in (("skip", "skip"), ("empty", "score")):
        assert planned(tmp_path, more=f"    on_missing: {on_missing}\n").intervals[0].action == action
    assert f"file://{tmp_path}/rows is missing" in refused("FS4002", tmp_path)


BY_REGION = {"sql": "SELECT dt, region, id FROM rows", "partitions": "region: string, dt: date"}


@pytest.mark.parametrize(
    ("made", "missing", "options"),
    [
        ("", "", BY_REGION),
        ("", "", {**BY_REGION, "sql": "SELECT dt, id FROM rows WHERE region = 'eu'"}),
        ("rows", "/region=...", BY_REGION),
        (
            f"rows/dt={DAY}",
            f"/dt={DAY}/region=...",
            {"partitions": "dt: date, region: string, hr: int", "select": 'dt: "${interval.ds}", hr: [1, 2]'},
        ),
        ("rows", "/region=...", {**BY_REGION, "sql": "SELECT dt, id FROM rows WHERE region = 'eu'"}),
    ],
)
def test_a_level_that_is_not_selected_and_not_there_is_missing_too(tmp_path, made, missing, options):
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    assert f"file://{tmp_path}/rows{missing} is missing" in refused("FS4002", tmp_path, **options)
    (interval,) = planned(tmp_path, **options, more="    on_missing: skip\n").intervals
    assert (interval.action, interval.reason) == ("skip", "input missing (on_missing: skip)")
    assert planned(tmp_path, **options, more="    on_missing: empty\n").intervals[0].action == "score"


def test_a_path_that_is_a_file_is_refused(tmp_path):
    shutil.move(put(tmp_path, "p.parquet"), tmp_path / "p.parquet")
    (tmp_path / "rows").rmdir()
    (tmp_path / "p.parquet").rename(tmp_path / "rows")
    assert f"file://{tmp_path}/rows is a file" in refused("FS4005", tmp_path)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("_delta_log/00000000000000000000.json", "a Delta table"),
        ("_spark_metadata/0", "the output of a Spark stream"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/version-hint.text", "an Iceberg table"),
        ("metadata/00000-1a2b.metadata.json", "an Iceberg table"),
    ],
)
def test_a_table_of_another_format_is_not_read_as_plain_files(tmp_path, log, says):
    put(tmp_path, f"dt={DAY}/p.parquet")
    (tmp_path / "rows" / log).parent.mkdir()
    (tmp_path / "rows" / log).touch()
    assert f"file://{tmp_path}/rows is {says}, not a directory of data files" in refused("FS4005", tmp_path)


def test_the_root_is_looked_at_once_for_all_intervals(tmp_path, monkeypatch):
    from firesteel.pipelines.storage.local import LocalStorage

    for day in range(1, 29):
        put(tmp_path, f"dt=2024-01-{day:02}/p.parquet")
    calls: list[str] = []
    asked = LocalStorage.status

    def counted(self, path):
        calls.append(path)
        return asked(self, path)

    monkeypatch.setattr(LocalStorage, "status", counted)
    planned(tmp_path, end="2024-01-28")
    assert calls.count(f"{tmp_path}/rows") == calls.count(f"{tmp_path}/rows/_delta_log") == 1


@pytest.mark.parametrize(
    ("text", "kind", "canonical"),
    [
        ("05", "int", "5"), ("-007", "bigint", "-7"), ("2024-1-2", "date", "2024-01-02"), ("2024-01", "date", "2024-01-01"),
        ("2024-01-02T05", "timestamp", "2024-01-02 05:00:00"), ("2024-01-02 5:06:07.120", "timestamp_ntz", "2024-01-02 05:06:07.12"),
        ("TRUE", "boolean", "true"), ("05", "string", "05"), ("1.50", "decimal(5,2)", "1.50"), ("1e3", "double", "1000.0"),
    ],
)  # fmt: skip
def test_values_are_written_as_spark_writes_them(text, kind, canonical):
    assert value_text(parse_value(text, kind)) == canonical


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "int"), (" 5", "int"), ("1_0", "int"), ("5.0", "int"), ("128", "tinyint"), ("٥", "int"), ("20240101", "date"),
        ("2024-02-30", "date"), ("2024-01-01 25", "timestamp"), ("2024-01-01Z", "timestamp"), ("yes", "boolean"),
        ("1.5", "decimal(5,2)"), ("1234.50", "decimal(5,2)"), ("x", "double"), ("1", "array<int>"),
    ],
)  # fmt: skip
def test_values_that_spark_reads_otherwise_or_not_at_all_are_refused(text, kind):
    with pytest.raises(ValueError, match="is not a"):
        parse_value(text, kind)


@pytest.mark.parametrize("name", ["k=%C3%A9", "k=", "k", "K=1", "=1", "%6B2=1"])
def test_directories_that_readers_disagree_about_are_refused(name):
    with pytest.raises(ValueError, match="."):
        parse_directory(name, "k", "string")


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("dt=1/p.parquet", True), ("_dt=1/p.parquet", True), ("_dt/p.parquet", False), (".dt=1/p.parquet", False),
        ("dt=1/_SUCCESS", False), ("dt=1/_a=b.parquet", True), ("p._COPYING_", False), ("p.tmp", False), ("a.tmp/p", True),
    ],
)  # fmt: skip
def test_files_are_data_by_one_rule(path, seen):
    assert is_data(path) is seen


def test_hours_of_a_day_that_is_selected_as_a_timestamp_are_not_left_out(tmp_path):
    for hour in (0, 5):
        put(tmp_path, f"dt={DAY} {hour:02}%3A00%3A00/p.parquet")
    assert "is within a selected day" in refused("FS4005", tmp_path, partitions="dt: timestamp")


def test_days_may_be_timestamps_at_midnight(tmp_path):
    put(tmp_path, f"dt={DAY} 00%3A00%3A00/p.parquet")
    put(tmp_path, "dt=2024-01-02 00%3A00%3A00/p.parquet")
    assert len(paths(planned(tmp_path, partitions="dt: timestamp"))) == 1
