"""What an interval reads besides its own partitions: a whole folder, the newest partition, a range with missing partitions."""

# ruff: noqa: DTZ001 - partitions are named by local time
from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import FiresteelError, InputNotReady, PlanDrift, SpecErrors, Where
from firesteel.jobs.lineage.datasets import inputs
from firesteel.jobs.run.stages import check_inputs
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.plan.inputs import Located, Tree, read_manifest
from firesteel.pipelines.plan.intervals import slots
from firesteel.pipelines.plan.model import SourceInput
from firesteel.pipelines.plan.newest import newest_values
from firesteel.pipelines.spec.date_formats import period, unit_of_formats
from firesteel.pipelines.spec.model import Interval, Source
from firesteel.pipelines.storage.local import LocalStorage
from support.specs import FixedBackend

ROWS = pa.table({"id": pa.array([1, 2], pa.int64())})
LATEST = 'partitions: {dt: "%Y%m%d"}, select: latest'


def put(root: Path, *paths: str) -> None:
    for path in paths:
        target = root / "rows" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ROWS, target)


def pipeline(root: Path, source: str, unit: str = "day") -> Pipeline:
    """Return a pipeline with one source; `source` has its keys besides path and contract."""
    (root / "pipeline.yaml").write_text(
        f"""spec_version: 1
name: t
storage: "file://{root}/_fs"
interval: {{unit: {unit}, begin: 2024-01-01}}
sources:
  rows: {{path: "file://{root}/rows", contract: {{columns: {{id: bigint}}}}{", " if source else ""}{source}}}
steps: {{s: {{sql: "SELECT id FROM rows"}}}}
sinks: {{out: {{from: s, path: "file://{root}/out", partition_by: [day: "%Y-%m-%dT%H"]}}}}
""".replace("%Y-%m-%dT%H", "%Y-%m-%dT%H" if unit == "hour" else "%Y-%m-%d" if unit == "day" else "%Y-%m"),
        encoding="utf-8",
    )
    return Pipeline.load(root / "pipeline.yaml", backend=FixedBackend())


def planned(root: Path, source: str, start: str, end: str = "", unit: str = "day") -> Plan:
    return pipeline(root, source, unit).plan(start, end or start)


def paths(plan: Plan, interval: int = 0) -> list[str]:
    return [file.path for file in plan.intervals[interval].inputs[0].files]


def refused(code: str, root: Path, source: str, start: str = "2024-06-05") -> str:
    with pytest.raises((InputNotReady, SpecErrors)) as caught:
        planned(root, source, start)
    errors = caught.value.errors if isinstance(caught.value, SpecErrors) else (caught.value,)
    assert [error.code for error in errors] == [code], errors
    return str(errors[0])


def listed(
    source: Source, directories: Iterable[str], slot: Any, ready: Iterable[str] = ()
) -> tuple[SourceInput | None, list[FiresteelError]]:
    """Return what an interval reads from directories in memory, each with one file."""
    names = {
        path for path in directories for path in (path, *(path[:at] for at, char in enumerate(path) if char == "/"))
    }

    def status(path: str) -> Any:
        inside = path.removeprefix("/rows").lstrip("/")
        found = not inside or inside in names or inside in ready
        return SimpleNamespace(is_dir=True, path=path, name=inside.rpartition("/")[2]) if found else None

    inside_of: dict[str, list[Any]] = {}
    for name in sorted(names):
        folder, _, last = name.rpartition("/")
        inside_of.setdefault(folder, []).append(SimpleNamespace(name=last, path=f"/rows/{name}", is_dir=True))

    def children(path: str) -> list[Any]:
        return inside_of.get(path.removeprefix("/rows").lstrip("/"), [])

    def scan(heads: list[str]) -> list[Any]:
        return [SimpleNamespace(path=f"{head}/p.parquet", length=1, modified_ms=1) for head in heads]

    storage: Any = SimpleNamespace(base_uri="mem:", status=status, list=children, scan=scan)
    return read_manifest("rows", Tree(source, Located(storage, "/rows")), slot, ready_column=None, where=Where(""))


# a folder without partitions


def test_every_interval_reads_all_files_of_a_folder(tmp_path):
    put(tmp_path, "a.parquet", "b.parquet")
    plan = planned(tmp_path, "", "2024-06-05", "2024-06-07")
    assert [paths(plan, number) for number in range(3)] == [["a.parquet", "b.parquet"]] * 3
    assert plan.sources[0].selection == "all files, in each interval"
    assert plan.selected_directories("rows") == ""


def test_a_changed_folder_is_noticed_by_the_run_and_by_the_next_plan(tmp_path):
    put(tmp_path, "a.parquet")
    first = planned(tmp_path, "", "2024-06-05")
    check_inputs(first, first.intervals[0])
    assert planned(tmp_path, "", "2024-06-05").intervals[0].plan_hash == first.intervals[0].plan_hash
    put(tmp_path, "b.parquet")
    with pytest.raises(PlanDrift, match=r"1 new \(b.parquet\)"):
        check_inputs(first, first.intervals[0])
    assert planned(tmp_path, "", "2024-06-05").intervals[0].plan_hash != first.intervals[0].plan_hash


@pytest.mark.parametrize(
    "source",
    [
        LATEST,
        'partitions: {dt: "%Y%m%d"}, select: {from: "${interval.ds - 6d}", to: "${interval.ds}", at_least: 1}',
        'partitions: {dt: "%Y%m%d"}, select: {from: "${interval.ds - 6d}", to: "${interval.ds}"}, on_missing: empty',
    ],
)
def test_a_directory_that_appears_after_the_plan_is_noticed_by_the_next_plan(tmp_path, source):
    put(tmp_path, "dt=20240601/p.parquet")
    first = planned(tmp_path, source, "2024-06-05")
    put(tmp_path, "dt=20240603/p.parquet")
    check_inputs(first, first.intervals[0])
    assert planned(tmp_path, source, "2024-06-05").intervals[0].plan_hash != first.intervals[0].plan_hash


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("", ["a.parquet", "b.parquet"]),
        (LATEST, ["dt=20240601/p.parquet"]),
        (
            'partitions: {dt: "%Y%m%d"}, select: {from: "${interval.ds - 6d}", to: "${interval.ds}", at_least: 1}, ready: {}',
            [f"dt=202406{day:02}/p.parquet" for day in range(1, 31)],
        ),
    ],
    ids=["folder", "newest", "range"],
)
def test_a_directory_is_listed_once_for_all_intervals(tmp_path, monkeypatch, source, files):
    put(tmp_path, *files)
    for file in files:
        (tmp_path / "rows" / file).with_name("_SUCCESS").touch()
    scans: list[str] = []
    looks: list[str] = []
    scan, status = LocalStorage.scan, LocalStorage.status
    monkeypatch.setattr(LocalStorage, "scan", lambda self, paths: scans.extend(paths) or scan(self, paths))
    monkeypatch.setattr(LocalStorage, "status", lambda self, path: looks.append(path) or status(self, path))
    plan = planned(tmp_path, source, "2024-06-01", "2024-06-30")
    assert len(plan.intervals) == 30
    for calls in (scans, [path for path in looks if path.endswith("_SUCCESS")]):
        of_source = [path for path in calls if path.startswith(str(tmp_path / "rows"))]
        assert len(of_source) == len(set(of_source))
    assert {file.path for interval in plan.intervals for file in interval.inputs[0].files} == set(files)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("dt=2024-06-05/a.parquet", "dt=2024-06-05 is a partition level that is not in `partitions`"),
        ("2024/06/05/a.parquet", "rows/2024 is a directory, and the source has no `partitions`"),
    ],
)
def test_a_folder_with_partitions_needs_their_declaration(tmp_path, path, problem):
    put(tmp_path, path, "HIVE_UNION_SUBDIR_1/b.parquet")
    text = refused("FS4005", tmp_path, "")
    assert problem in text
    assert 'partitions: "%Y/%m/%d"' in text


@pytest.mark.parametrize("source", ["", LATEST])
@pytest.mark.parametrize("on_missing", ["fail", "skip", "empty"])
def test_a_folder_or_newest_partition_without_files_is_missing(tmp_path, source, on_missing):
    (tmp_path / "rows" / ("dt=20240605" if source else "")).mkdir(parents=True)
    text = f"{source}{', ' if source else ''}on_missing: {on_missing}"
    if on_missing == "fail":
        assert "has no files" in refused("FS4002", tmp_path, text)
        return
    interval = planned(tmp_path, text, "2024-06-05").intervals[0]
    assert interval.action == ("skip" if on_missing == "skip" else "score")
    assert [read.files for read in interval.inputs] == ([] if on_missing == "skip" else [()])


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('select: {dt: "${interval.ds}"}', "`select` needs `partitions`"),
        ("partitions: none", "`partitions: none` has no format of dates such as `%Y/%m/%d`. Leave out `partitions`"),
        ("select: latest", "`select` needs a format of dates under `partitions`"),
        ("partitions: {dt: string}, select: latest", "`select` needs a format of dates under `partitions`"),
        ("partitions: {dt: string}, select: {from: a, to: b}", "`select` needs a format of dates under `partitions`"),
        ('partitions: {m: "%m"}, select: latest', "the newest of %m is not known"),
        ('partitions: {y: "%Y", d: "%d"}, select: latest', "the newest of %Y, %d is not known"),
        ('partitions: {dt: "%Y%m%d"}, max_age: 7d', "`max_age` needs `select: latest`"),
        ('partitions: {dt: "%Y%q"}, select: latest', "unknown directive `%q`"),
        ('partitions: "%Y/%m/data"', "`data` has no directive"),
        ('partitions: "%Y/%q"', "unknown directive `%q`"),
        ('partitions: "%Y//%m"', "has an empty level"),
        ('partitions: "year=%Y/month=%m"', "has names of columns. Write a mapping"),
        ('partitions: {dt: "%Y"}, select: newest', "rows.select`: expected `latest`, or a mapping such as `{COLUMN: VALUE}`, found 'newest'"),
        ('partitions: {dt: "%Y"}, select: [latest]', "rows.select`: expected `latest`, or a mapping"),
        ('partitions: {dt: "%Y"}, select: {latest: 7d}', "rows.select`: write `select: latest`, and `max_age` beside it"),
        ('partitions: {dt: "%Y"}, select: {dt: {latest: true, max_age: 7d}}', "write `dt: latest`, and `max_age` beside `select`"),
        ("partitions: {dt: string}, select: {dt: latest}", "such as `dt: string %Y%m%d`, or `dt: [latest]` for its name"),
        ('partitions: {dt: "%Y"}, select: latest, max_age: 7', "7 s is shorter than any partition"),
        ('partitions: {dt: "%Y"}, select: {from: 2024}', "rows.select`: a range needs both `from` and `to`"),
        ('partitions: "%Y/%m/%d", select: {from: 2024-06-02, to: 2024-06-01}', "rows.select`: the range ends (2024-06-01) before"),
        (
            'partitions: {dt: "%Y%m%d"}, select: {from: 2024-06-01, to: 2024-06-02, at_least: 3}',
            "`at_least: 3` is more than the 2 partitions of the range",
        ),
        ('partitions: {dt: "%Y"}, layout: "%Y"', "or `layout`, not both"),
        ("partitions: {dt: date}, select: {dt: {from: 2024-06-01, to: 2024-06-02, at_least: 0}}", "expected a number of partitions such as 20"),
        ("partitions: {dt: date}, select: {dt: {from: 2024-06-01, to: 2024-06-02, at_least: 110%}}", "or a share such as 80%"),
        (
            "partitions: {dt: date}, select: {dt: {from: 2024-06-01, to: 2024-06-02, at_least: 2}}, on_missing: empty",
            "`at_least` has no effect with `on_missing: empty`",
        ),
    ],
)  # fmt: skip
def test_a_wrong_selection_is_one_error(tmp_path, source, problem):
    assert problem in refused("FS1004", tmp_path, source)


# the newest partition

LAYOUTS = (
    (("dt=%Y%m%d",), {"dt": "%Y%m%d"}),
    (("dt=%Y-%m-%d",), {"dt": "date"}),
    (("y=%Y", "m=%-m", "d=%-d"), {"y": "%Y", "m": "%-m", "d": "%-d"}),
    (("y=%Y", "m=%m", "d=%d"), {"y": "%Y", "m": "int %m", "d": "%d"}),
    (("m=%m", "y=%Y"), {"m": "%m", "y": "%Y"}),
    (("w=%G-W%V",), {"w": "%G-W%V"}),
    (("g=%G", "w=%V", "u=%u"), {"g": "%G", "w": "%-V", "u": "%u"}),
    (("y=%Y", "j=%j"), {"y": "%Y", "j": "int %j"}),
    (("dt=%Y%m%d", "h=%H"), {"dt": "%Y%m%d", "h": "%H"}),
    (("y=%Y",), {"y": "%Y"}),
    (("%Y", "%m", "%d"), "%Y/%m/%d"),
    (("%G-%V",), "%G-%V"),
)


def ends(formats: tuple[str, ...], at: datetime) -> datetime:
    """Return the end of the period of the directory that holds a time, by steps of one hour."""
    names = [at.strftime(text) for text in formats]
    while [at.strftime(text) for text in formats] == names:
        at += timedelta(hours=1)
    return at


@given(
    st.sampled_from(LAYOUTS),
    st.lists(st.datetimes(datetime(2023, 12, 20), datetime(2025, 1, 12)), max_size=8),
    st.datetimes(datetime(2023, 12, 25), datetime(2025, 1, 8)),
    st.sampled_from(["hour", "day", "month"]),
)
def test_the_newest_partition_is_the_last_that_ends_with_the_interval_or_before(layout, times, at, unit):
    formats, partitions = layout
    source = Source(path="mem:///rows", partitions=partitions, select="latest", on_missing="skip")
    at = at.replace(minute=0, second=0, microsecond=0)
    (slot,) = slots(Interval(unit=unit, begin="2023-01-01"), at.isoformat(), at.isoformat())
    known = {"/".join(time.strftime(text) for text in formats): ends(formats, time.replace(minute=0)) for time in times}
    closed = {
        end: path
        for path, end in known.items()
        if end.replace(minute=0, second=0, microsecond=0) <= slot.end.replace(tzinfo=None)
    }
    found, errors = listed(source, known, slot)
    assert not errors
    assert (found.directories if found else ()) == ((closed[max(closed)],) if closed else ())


def test_a_backfill_reads_the_partitions_of_then(tmp_path):
    put(tmp_path, *(f"dt=202406{day}/p.parquet" for day in ("01", "04", "05", "30")))
    plan = planned(tmp_path, LATEST, "2024-06-03", "2024-06-06")
    assert [paths(plan, number) for number in range(4)] == [
        [f"dt=202406{day}/p.parquet"] for day in ("01", "04", "05", "05")
    ]
    assert plan.sources[0].selection == "the newest partition at or before the interval"
    assert plan.selected_directories("rows") == "dt=20240601 to dt=20240605"
    put(tmp_path, "dt=20240607/p.parquet")  # a later partition changes nothing
    again = planned(tmp_path, LATEST, "2024-06-03", "2024-06-06")
    assert [interval.plan_hash for interval in again.intervals] == [interval.plan_hash for interval in plan.intervals]


@pytest.mark.parametrize(("unit", "start", "day"), [("hour", "2024-06-05T22", "04"), ("hour", "2024-06-05T23", "05"), ("month", "2024-06", "30")])  # fmt: skip
def test_a_partition_of_later_hours_is_not_read(tmp_path, unit, start, day):
    put(tmp_path, *(f"dt=202406{number:02}/p.parquet" for number in range(1, 31)), "dt=20240701/p.parquet")
    assert paths(planned(tmp_path, LATEST, start, unit=unit)) == [f"dt=202406{day}/p.parquet"]


@pytest.mark.parametrize(("by", "code"), [("[dt]", "FS1004"), ('[dt: "%Y%m%d"]', "FS1013"), ('[day: "%Y%m%d"]', "")])
def test_the_date_of_the_newest_partition_is_not_that_of_the_interval(tmp_path, by, code):
    pipeline(tmp_path, LATEST)
    path = tmp_path / "pipeline.yaml"
    text = (
        path.read_text(encoding="utf-8")
        .replace('[day: "%Y-%m-%d"]', by)
        .replace("SELECT id FROM", "SELECT id, dt FROM")
    )
    path.write_text(text, encoding="utf-8")
    if not code:
        Pipeline.load(path, backend=FixedBackend())
        return
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, backend=FixedBackend())
    assert [error.code for error in caught.value.errors] == [code]


def test_max_age_is_the_time_between_the_ends(tmp_path):
    put(tmp_path, "dt=20240601/p.parquet", "dt=20240701/p.parquet")
    source = f"{LATEST}, max_age: 4d"
    assert paths(planned(tmp_path, source, "2024-06-05")) == ["dt=20240601/p.parquet"]
    text = refused("FS4007", tmp_path, source, "2024-06-06")
    assert "rows 2024-06-06: no partition at or before the interval and within max_age (4d)" in text
    assert f"The newest is file://{tmp_path}/rows/dt=20240601, 5d before its end." in text
    text = refused("FS4007", tmp_path, source, "2024-05-31")
    assert f"The newest of all is file://{tmp_path}/rows/dt=20240701, which ends after the interval." in text
    for on_missing, action in (("skip", "skip"), ("empty", "score")):
        interval = planned(tmp_path, f"{source}, on_missing: {on_missing}", "2024-06-06").intervals[0]
        assert interval.action == action


def test_a_source_without_partitions_has_no_newest(tmp_path):
    (tmp_path / "rows").mkdir()
    assert f"file://{tmp_path}/rows has no partition." in refused("FS4007", tmp_path, LATEST)
    (tmp_path / "rows").rmdir()
    assert "is missing" in refused("FS4002", tmp_path, LATEST)


def test_the_newest_partition_must_be_ready(tmp_path):
    put(tmp_path, "dt=20240603/p.parquet", "dt=20240605/p.parquet")
    (tmp_path / "rows" / "dt=20240603" / "_SUCCESS").touch()
    assert "rows dt=20240605: _SUCCESS is missing" in refused("FS4001", tmp_path, f"{LATEST}, ready: {{}}")
    (tmp_path / "rows" / "dt=20240605" / "_SUCCESS").touch()
    assert paths(planned(tmp_path, f"{LATEST}, ready: {{}}", "2024-06-05")) == ["dt=20240605/p.parquet"]


@pytest.mark.parametrize(
    ("directory", "problem"),
    [
        ("dt=20240231", "`20240231` is not a date"),
        ("dt=5", "`5` is not a date"),
        ("dt=today", "`today` is not an int"),
        ("dt=020240601", "have the same value of `dt`"),
    ],
)
def test_a_directory_without_a_date_is_refused(tmp_path, directory, problem):
    put(tmp_path, "dt=20240601/p.parquet", f"{directory}/p.parquet")
    assert problem in refused("FS4005", tmp_path, LATEST)


def test_null_other_names_and_the_far_future_are_not_the_newest(tmp_path):
    put(tmp_path, "dt=20240601/p.parquet", "dt=99991231/p.parquet", "dt=__HIVE_DEFAULT_PARTITION__/p.parquet")
    put(tmp_path, "archive/p.parquet", "_tmp/p.parquet")
    assert paths(planned(tmp_path, LATEST, "2024-06-05")) == ["dt=20240601/p.parquet"]


def test_other_columns_may_be_selected_or_read_as_a_whole(tmp_path):
    put(tmp_path, *(f"region={region}/dt=2024060{day}/p.parquet" for region in ("eu", "us") for day in (1, 2)))
    put(tmp_path, "region=us/dt=20240603/p.parquet")
    source = 'partitions: {region: string, dt: "%Y%m%d"}, select: '
    assert paths(planned(tmp_path, f"{source}{{dt: latest, region: eu}}", "2024-06-05")) == [
        "region=eu/dt=20240602/p.parquet"
    ]
    assert "region=eu/dt=20240603 is missing" in refused("FS4002", tmp_path, f"{source}latest")
    put(tmp_path, "region=eu/dt=20240603/p.parquet")
    assert len(paths(planned(tmp_path, f"{source}latest", "2024-06-05"))) == 2


# a range


def hours_around(formats: tuple[str, ...], day: date) -> dict[datetime, str]:
    """Return the directory of each hour of some weeks around a day."""
    start = datetime(day.year, day.month, day.day) - timedelta(days=45)
    times = [start + timedelta(hours=hours) for hours in range(24 * 80)]
    return {time: "/".join(time.strftime(text) for text in formats) for time in times}


@pytest.mark.parametrize(
    ("at_least", "days", "enough"),
    [("3", 3, True), ("3", 2, False), ("50%", 4, True), ("50%", 3, False), ("100%", 7, True), ("1", 0, False)],
)
def test_a_range_needs_as_many_partitions_as_the_spec_says(tmp_path, at_least, days, enough):
    put(tmp_path, "dt=20240401/p.parquet", *(f"dt=2024060{day}/p.parquet" for day in range(1, days + 1)))
    source = (
        'partitions: {dt: "%Y%m%d"}, select: {from: "${interval.ds - 6d}", to: "${interval.ds}", '
        f"at_least: {at_least}}}"
    )
    if enough:
        assert paths(planned(tmp_path, source, "2024-06-07")) == [
            f"dt=2024060{day}/p.parquet" for day in range(1, days + 1)
        ]
        assert len(paths(planned(tmp_path, source.replace("select: {", "select: {dt: {") + "}", "2024-06-07"))) == days
        return
    text = refused("FS4002", tmp_path, source, "2024-06-07")
    assert f"{days} of the 7 partitions in the range exist, expected at least" in text
    assert "for example dt=20240607 is missing" in text
    assert planned(tmp_path, f"{source}, on_missing: skip", "2024-06-07").intervals[0].action == "skip"


@settings(max_examples=50)
@given(st.sampled_from([layout for layout in LAYOUTS if layout[0] != ("y=%Y",)]), st.dates(date(2023, 12, 20), date(2025, 1, 10)), st.integers(0, 40))  # fmt: skip
def test_a_range_over_several_columns_has_the_days_that_it_covers(layout, last, length):
    formats, partitions = layout
    select = {"from": f"${{interval.ds - {length}d}}", "to": "${interval.ds}"}
    source = Source(path="mem:///rows", partitions=partitions, select=select)
    (slot,) = slots(Interval(begin="2023-01-01"), last.isoformat(), last.isoformat())
    every = hours_around(formats, last)
    found, errors = listed(source, every.values(), slot)
    assert not errors
    assert set(found.directories) == {
        name for time, name in every.items() if last - timedelta(days=length) <= time.date() <= last
    }
    assert len(found.directories) == len(set(found.directories))


@settings(max_examples=50)
@given(st.sampled_from(LAYOUTS), st.dates(date(2023, 12, 20), date(2025, 1, 10)), st.sampled_from(["day", "month"]))
def test_the_columns_of_an_interval_belong_together(layout, day, unit):
    formats, partitions = layout
    if partitions == {"dt": "date"}:
        partitions = {"dt": "%Y-%m-%d"}
    (slot,) = slots(Interval(unit=unit, begin="2023-01-01"), day.isoformat(), day.isoformat())
    every = hours_around(formats, day)
    found, errors = listed(Source(path="mem:///rows", partitions=partitions), every.values(), slot)
    assert not errors
    assert set(found.directories) == {
        name for time, name in every.items() if slot.start <= time.replace(tzinfo=UTC) < slot.end
    }


# directories without names


def test_directories_without_names_are_read_by_their_format(tmp_path):
    put(tmp_path, "2024/06/05/p.parquet", "2024/6/05/q.parquet", "2024/06/06/p.parquet", "2024/notes.txt", "latest/p.parquet")  # fmt: skip
    plan = planned(tmp_path, 'partitions: "%Y/%m/%d"', "2024-06-05")
    assert paths(plan) == ["2024/06/05/p.parquet"]
    assert plan.sources[0].partitions == ()
    assert "rows/2024/06/07 is missing" in refused("FS4002", tmp_path, 'partitions: "%Y/%m/%d"', "2024-06-07")
    assert "2024/06/05/hour=1 is a partition level that is not" in _below(tmp_path)


@pytest.mark.parametrize(
    ("source", "path", "subset"),
    [
        ("", "p.parquet", None),
        (LATEST, "dt=20240603/p.parquet", [({"dt": "20240603"}, "dt=20240603")]),
        ('partitions: "%Y/%m/%d"', "2024/06/05/p.parquet", [({}, "2024/06/05")]),
    ],
)
def test_lineage_has_the_directories_that_were_read(tmp_path, source, path, subset):
    put(tmp_path, path)
    plan = planned(tmp_path, source, "2024-06-05")
    (dataset,) = inputs(plan, plan.intervals[0], None, "")
    facet = dataset.inputFacets.get("subset")
    found = facet and [(part.dimensions, part.identifier) for part in facet.inputCondition.partitions]
    assert found == subset


def _below(root: Path) -> str:
    put(root, "2024/06/05/hour=1/p.parquet")
    return refused("FS4005", root, 'partitions: "%Y/%m/%d"')


def test_two_directories_without_names_with_one_value_are_refused(tmp_path):
    put(tmp_path, "2024/6/p.parquet", "2024/06/p.parquet")
    text = refused("FS4005", tmp_path, 'partitions: "%Y/%-m"')
    assert f"rows/2024/06 and file://{tmp_path}/rows/2024/6 have the same value." in text


# periods


@pytest.mark.parametrize(
    ("formats", "unit"),
    [
        (["%Y%m%d%H"], "hour"), (["%Y-%m-%d"], "day"), (["%Y", "%j"], "day"), (["%G", "%V", "%u"], "day"),
        (["%G-W%V"], "week"), (["%Y%m"], "month"), (["%Y"], "year"), (["%G"], None), (["%Y", "%d"], None),
        (["%Y%m", "%H"], None), (["%H"], None), (["%Y", "%V"], None),
    ],
)  # fmt: skip
def test_formats_name_a_period_together_or_none(formats, unit):
    assert unit_of_formats(formats) == unit


@given(st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1)), st.sampled_from(LAYOUTS))
def test_a_time_is_in_the_period_of_its_directory(at, layout):
    texts = {text.partition("=")[2] or text: "" for text in layout[0]}
    opens, closes = period({text: at.strftime(text) for text in texts})
    assert opens <= at < closes


@given(st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1)), st.sampled_from(LAYOUTS))
def test_the_newest_values_are_those_of_the_last_period_that_has_ended(end, layout):
    formats = {text: text.partition("=")[2] or text for text in layout[0]}
    _, closes = period({formats[name]: text for name, text in newest_values(formats, end).items()})
    assert closes <= end < period({text: closes.strftime(text) for text in formats.values()})[1]


@pytest.mark.parametrize(
    "texts",
    [{"%Y%m%d": "20240231"}, {"%Y": "2024", "%m": "13"}, {"%Y-%m-%d": "2024-6-1"}, {"%Y%m%d": "20240601", "%j": "002"}],
)
def test_a_value_that_is_not_a_date_has_no_period(texts):
    with pytest.raises(ValueError, match="date|format"):
        period(texts)
