"""The same days in several directory layouts: equal rows, whatever the names of the directories."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.read import current_files
from support.runs import Project

pytestmark = pytest.mark.integration

DAYS = ("2013-06-01", "2013-06-02")


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of a day as a format, and what the spec says about them."""

    directory: str
    partitions: str
    partition_by: str

    @property
    def columns(self) -> list[str]:
        """Return the columns that hold the day."""
        return [part.partition("=")[0] for part in self.directory.split("/")]


LAYOUTS = {
    "date": Layout("dt=%Y-%m-%d", 'dt: "%Y-%m-%d"', '[{dt: "%Y-%m-%d"}, origin]'),
    "yyyymmdd": Layout("dt=%Y%m%d", 'dt: "%Y%m%d"', '[{dt: "%Y%m%d"}, origin]'),
    "text": Layout("dt=%Y%m%d", "dt: string %Y%m%d", "[{dt: string %Y%m%d}, origin]"),
    "copied": Layout("dt=%Y%m%d", 'dt: "%Y%m%d"', "[dt, origin]"),
    "year, month, day": Layout(
        "year=%Y/month=%-m/day=%-d",
        'year: "%Y", month: "%-m", day: "%-d"',
        '[{year: "%Y"}, {month: "%-m"}, {day: "%-d"}, origin]',
    ),
    "with zeros": Layout(
        "year=%Y/month=%m/day=%d",
        'year: "%Y", month: "%m", day: "%d"',
        '{year: "%Y", month: "%m", day: "%d"}',
    ),
    "copied with zeros": Layout(
        "year=%Y/month=%m/day=%d", 'year: "%Y", month: "%m", day: "%d"', "[year, month, day, origin]"
    ),
}


def in_layout(project: Project, layout: Layout) -> Pipeline:
    """Move the sources' directories, and return the pipeline that reads and writes this layout."""
    root = Path(project.root.removeprefix("file://"))
    for source in ("flights", "weather"):
        for day in (*DAYS, "2013-06-03"):
            target = root / source / date.fromisoformat(day).strftime(layout.directory)
            if target != root / source / f"dt={day}":
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(root / source / f"dt={day}", target)
    copied = [column for column in layout.columns if f"{{{column}:" not in layout.partition_by]
    keep = copied if layout.partition_by.startswith("[") else []
    return project.pipeline(
        {
            "interval: {column: dt, unit: day": "interval: {unit: day",
            "{dt: date, origin: string}": f"{{{layout.partitions}, origin: string}}",
            'select: {dt: "${interval.ds}", origin': "select: {origin",
            'partitions: {dt: date}\n    select: {dt: "${interval.ds}"}': f"partitions: {{{layout.partitions}}}",
            "keep: [flight_id, dt, origin]": f"keep: [{', '.join(['flight_id', *keep, 'origin'])}]",
            "partition_by: [dt, origin]": f"partition_by: {layout.partition_by}",
        },
        {
            "  f.dt,\n": "".join(f"  f.{column},\n" for column in layout.columns),
            "f.dt = w.dt": " AND ".join(f"f.{column} = w.{column}" for column in layout.columns),
        },
    )


def rows(project: Project) -> Mapping[str, float]:
    """Return the published scores by flight; the ID names the day."""
    tables = [pq.read_table(io.BytesIO(data)) for data in project.published().values()]
    columns = [(table["flight_id"].to_pylist(), table["p_delay"].to_pylist()) for table in tables]
    pairs = [pair for ids, scores in columns for pair in zip(ids, scores, strict=True)]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, flight_model, spark) -> Mapping[str, float]:
    """The rows that the example publishes as it is."""
    from support.data import write_days

    folder = tmp_path_factory.mktemp("expected")
    write_days(folder / "data", list(DAYS))
    project = Project(folder / "project", f"file://{folder / 'data'}", flight_model)
    result = run_plan(project.pipeline().plan(*DAYS), spark=spark, runs=folder / "runs")
    assert result.state == "published"
    return rows(project)


QUICK = ("yyyymmdd", "year, month, day", "copied with zeros")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in LAYOUTS]
)
def test_each_layout_gives_the_same_rows_in_its_own_directories(name, project, spark, runs, expected):
    layout = LAYOUTS[name]
    pipeline = in_layout(project, layout)
    plan = pipeline.plan(*DAYS)
    result = run_plan(plan, spark=spark, runs=runs)
    assert (result.state, result.error) == ("published", "")
    assert rows(project) == expected
    folders = {path.rpartition("/")[0] for path in project.published()}
    days = {date.fromisoformat(day).strftime(layout.directory) for day in DAYS}
    origins = [f"/origin={origin}" for origin in ("EWR", "JFK", "LGA")] if "origin" in layout.partition_by else [""]
    assert folders == {day + origin for day in days for origin in origins}
    assert len(current_files(f"{project.root}/scores", [DAYS[0]])) == len(origins)
    assert {interval.action for interval in pipeline.plan(*DAYS).intervals} == {"skip"}
    forced = run_plan(pipeline.plan(DAYS[0], force=True), spark=spark, runs=runs)
    assert forced.state == "published"
    assert rows(project) == expected  # the day's own partitions were replaced, no other
