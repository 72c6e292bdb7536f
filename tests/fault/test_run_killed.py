"""kill -9 of the whole driver, JVM and all, at every boundary of a run; then the next run, and the bytes."""

from __future__ import annotations

import io
from collections import Counter

import pyarrow.parquet as pq
import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.events import Event
from firesteel.pipelines.storage.open import locate
from support.data import write_days
from support.held import holding, save_held
from support.runs import DAY, end_driver_at, kill_driver_at, started_driver
from support.scoring_project import DAY as POINTS
from support.scoring_project import ScoringProject, rows_of
from support.waiting import runs as alive
from support.waiting import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.fault]

BEFORE_JOURNAL = {"leased", "scoring", "output_gate"}


@pytest.mark.parametrize(
    "boundary",
    [
        "leased",
        "scoring",
        "partition_published",
        *(pytest.param(each, marks=pytest.mark.long) for each in ("output_gate", "journaled", "partition_retired")),
    ],
)
def test_a_killed_driver_leaves_whole_data_and_the_next_run_ends_it(project, spark, tmp_path, boundary):
    pipeline = project.pipeline()
    first = run_plan(pipeline.plan(DAY), spark=spark, runs=tmp_path / "runs")
    assert first.state == "published"
    old = project.published()
    write_days(tmp_path / "data", [DAY], rows=30)
    plan = pipeline.plan(DAY)
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(plan.to_json(), encoding="utf-8")
    killed = kill_driver_at(plan_file, boundary)
    assert killed.returncode == -9, killed.stderr
    if boundary in BEFORE_JOURNAL:
        assert project.published() == old
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=tmp_path / "runs")
    assert result.exit_code == 0, result.error
    assert project.rows() == 90
    assert not set(project.published().values()) & set(old.values())
    assert project.leftovers() == []
    again = run_plan(pipeline.plan(DAY), spark=spark, runs=tmp_path / "runs")
    assert again.state == "skipped"


def row_of(project: ScoringProject, number: int) -> float:
    """The score that `held` gives to one row of a file; the row passes the filter."""
    storage, base = locate(project.root)
    path = next(file.path for file in storage.walk(base) if file.name == f"part-{number}.parquet")
    return float(pq.read_table(io.BytesIO(storage.read(path))).column("a")[7].as_py()) * 2


@pytest.mark.parametrize("place", ["hdfs", pytest.param("file", marks=pytest.mark.long)])
def test_the_next_run_goes_on_with_the_tasks_that_a_killed_one_finished(spark, hdfs_env, tmp_path, runs, place):
    """Killed with one task of six in mid-batch, then with all rows staged. No task is done twice."""
    root = f"file://{tmp_path}/data" if place == "file" else f"{hdfs_env.uri}/resumed/{tmp_path.name}"
    project, marks = ScoringProject(tmp_path, root, "held"), tmp_path / "marks"
    project.write_points(rows=120)
    save_held(tmp_path / "model-held", marks, at=row_of(project, 5))
    project.plan("direct")
    spec = tmp_path / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("local[2]", "local[8]"))  # a slot, and so a task, for each file
    plan = Pipeline.load(spec).plan(POINTS)
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(plan.to_json(), encoding="utf-8")
    storage, staging = locate(f"{root}/_firesteel/points/staging")

    def five_of_six() -> bool:
        return bool(holding(marks)) and sum("/_done/" in file.path for file in storage.walk(staging)) == 5

    with started_driver(plan_file) as driver:
        wait_for(five_of_six, "five tasks are done, and one waits", 180)
        driver.kill()
        # A worker outlives its JVM for a moment, and could end the sixth task on its own.
        wait_for(lambda: not any(map(alive, holding(marks))), "the workers have ended with their driver")
    (marks / "go").touch()
    assert kill_driver_at(plan_file, "staged").returncode == -9
    assert not list(storage.walk(locate(f"{root}/scores")[1]))
    told: list[Event] = []
    result = run_plan(plan, spark=spark, runs=runs, on_event=told.append)
    assert result.state == "published", result.error
    found = project.published()
    assert [event.facts for event in told if event.kind == "resumed"] == [
        {"done": 6, "left": 0, "rows": found.num_rows}
    ]
    assert dict(result.intervals[0].scoring)["resumed_rows"] == found.num_rows
    assert result.counts.balanced
    by_run = Counter(found.column("_run_id").to_pylist())
    assert len(by_run) == 2, "five tasks by the first driver, one by the second, none by the third"
    assert result.run_id not in by_run
    assert not list(storage.walk(staging))
    assert not [file.path for file in storage.walk(locate(f"{root}/scores")[1]) if "/_d" in file.path]
    forced = run_plan(project.plan("direct", force=True), spark=spark, runs=runs)
    assert forced.state == "published", forced.error
    once_more = project.published()
    assert set(once_more.column("_run_id").to_pylist()) == {forced.run_id}
    assert rows_of(found) == rows_of(once_more)


def test_a_driver_that_is_asked_to_end_aborts_and_gives_the_interval_back(project, spark, tmp_path):
    pipeline = project.pipeline()
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(pipeline.plan(DAY).to_json(), encoding="utf-8")
    ended = end_driver_at(plan_file, "scoring")
    assert ended.returncode == 130, ended.stderr
    assert "Cancelled. Published intervals stay published" in ended.stderr
    assert project.published() == {}
    assert run_plan(pipeline.plan(DAY), spark=spark, runs=tmp_path / "runs").state == "published"
    assert project.rows() == 60
    assert project.leftovers() == []
