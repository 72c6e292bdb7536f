"""kill -9 of the whole driver, JVM and all, at every boundary of a run; then the next run, and the bytes."""

from __future__ import annotations

import pytest

from firesteel.jobs.run.runner import run_plan
from support.data import write_days
from support.runs import DAY, end_driver_at, kill_driver_at

pytestmark = [pytest.mark.integration, pytest.mark.fault]

BEFORE_JOURNAL = ["interval_started", "leased", "input_gate", "scoring", "staged", "output_gate"]
AFTER_JOURNAL = ["journaled", "partition_retired", "partition_published", "ledgered", "cleaned"]


@pytest.mark.parametrize("boundary", [*BEFORE_JOURNAL[1::2], *AFTER_JOURNAL[:3]])
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


def test_a_driver_that_is_asked_to_end_aborts_and_gives_the_interval_back(project, spark, tmp_path):
    pipeline = project.pipeline()
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(pipeline.plan(DAY).to_json(), encoding="utf-8")
    ended = end_driver_at(plan_file, "scoring")
    assert ended.returncode == 130, ended.stderr
    assert "Nothing half-done was published" in ended.stderr
    assert project.published() == {}
    assert run_plan(pipeline.plan(DAY), spark=spark, runs=tmp_path / "runs").state == "published"
    assert project.rows() == 60
    assert project.leftovers() == []
