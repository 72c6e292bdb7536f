"""`batch_concurrency`: several intervals in one application, each a transaction of its own; and the budget of executor-hours."""

from __future__ import annotations

import re

import mlflow
import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import StateStore
from firesteel.pipelines.storage.open import locate
from support.bursty import Bursty

DAYS = {f"2024-01-0{day}": files for day, files in enumerate((1, 2, 1, 3), start=1)}
LOCAL = {"master": "local[2]"}


@pytest.fixture
def project(tmp_path) -> Bursty:
    project = Bursty(tmp_path)
    project.write(DAYS)
    return project


class Seen:
    """Events, and the most intervals that were under way at once."""

    def __init__(self):
        self.events, self.now, self.most = [], set(), 0

    def __call__(self, event):
        self.events.append((event.kind, event.interval))
        if event.kind == "leased":
            self.now.add(event.interval)
            self.most = max(self.most, len(self.now))
        if event.kind in ("interval_done", "interval_failed"):
            self.now.discard(event.interval)


def ledger(project):
    storage, base = locate(f"file://{project.folder}/data/_firesteel")
    return Ledger(StateStore(storage, base, "bursty", "default"))


def staged(project):
    storage, base = locate(f"file://{project.folder}/data/_firesteel/staging")
    return [file.path for file in storage.walk(base)]


def test_two_at_once_publish_what_one_by_one_would(spark, project):
    seen = Seen()
    plan = project.plan("2024-01-01", "2024-01-04", LOCAL, interval=", batch_concurrency: 2")
    result = run_plan(plan, spark=spark, runs=project.folder / "runs", on_event=seen)
    assert result.state == "published", result.error
    assert seen.most == 2
    assert [each.interval for each in result.intervals] == list(DAYS)  # in the plan's order, whatever ended first
    assert project.rows() == {day: files * 20 for day, files in DAYS.items()}
    assert [each.counts.scored for each in result.intervals] == [files * 20 for files in DAYS.values()]
    records = [ledger(project).published("scores", day) for day in DAYS]
    assert {record.run_id for record in records} == {result.run_id}
    assert [record.counts.scored for record in records] == [each.counts.scored for each in result.intervals]
    for record, files in zip(records, DAYS.values(), strict=True):
        assert record.task_seconds >= 2.0 * files  # of its own tasks, not of those beside it
    assert next(day for kind, day in seen.events if kind == "interval_started") == "2024-01-04"  # the largest
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name LIKE 'firesteel/%'")
    assert len(client.search_runs([experiment.experiment_id])) == 1 + len(DAYS)
    assert spark.sparkContext.getLocalProperty("spark.scheduler.pool") is None
    again = project.plan("2024-01-01", "2024-01-04", LOCAL)
    assert {interval.action for interval in again.intervals} == {"skip"}  # it is in no hash


def test_a_failure_leaves_alone_what_runs_beside_it_and_begins_nothing_more(spark, project):
    plan = project.plan("2024-01-01", "2024-01-04", LOCAL, interval=", batch_concurrency: 2")
    next((project.folder / "data" / "points" / "dt=2024-01-04").glob("part-*")).unlink()
    seen = Seen()
    result = run_plan(plan, spark=spark, runs=project.folder / "runs", on_event=seen)
    assert (result.state, result.exit_code) == ("failed", 6)
    assert result.error.startswith("FS6001")
    states = {interval.interval: interval.state for interval in result.intervals}
    assert states == {"2024-01-02": "published", "2024-01-04": "failed"}
    assert project.rows() == {"2024-01-02": 40}
    assert staged(project) == []


def test_whoever_interrupts_leaves_no_lease_and_nothing_staged(spark, project):
    plan = project.plan("2024-01-01", "2024-01-04", LOCAL, interval=", batch_concurrency: 2")
    seen = Seen()

    def on_event(event):
        seen(event)
        if event.kind == "interval_done":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, spark=spark, runs=project.folder / "runs", on_event=on_event)
    assert staged(project) == []
    result = run_plan(plan, spark=spark, runs=project.folder / "runs")
    assert result.state == "published", result.error  # no lease stands in the way
    assert project.rows() == {day: files * 20 for day, files in DAYS.items()}


def test_a_run_that_has_cost_as_much_as_it_may_is_stopped(spark, project):
    project.write({"2024-01-05": 90})  # ninety seconds on two slots
    resources = {**LOCAL, "executors": {"max_executor_hours": 12 / 3600}}
    plan = project.plan("2024-01-05", "2024-01-05", resources)
    result = run_plan(plan, spark=spark, runs=project.folder / "runs")
    assert (result.state, result.exit_code) == ("failed", 1)
    assert re.match(r"FS9011 2024-01-05 was stopped: the run has cost [\d.]+ executor-hours", result.error), (
        result.error
    )
    assert "2024-01-05" not in project.rows()
    assert staged(project) == []
    assert spark.range(3).count() == 3  # the session is none the worse
