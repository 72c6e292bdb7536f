"""What can be done after a run: dead letters replayed, publishes rolled back, long ranges resumed, runs cancelled."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import LeaseConflict, PlanDrift, RowErrorBudget
from firesteel.jobs.run.backfill import delete_if_complete, load_or_plan, skip_published
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.run.replay import replay
from firesteel.pipelines.events import no_progress
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.audit import verify
from firesteel.pipelines.publish.cancel import cancel
from firesteel.pipelines.publish.dead_letters import dead_letters
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import StateStore
from firesteel.pipelines.publish.verify import verify_excluded
from firesteel.pipelines.read import current_files
from firesteel.pipelines.storage.open import locate
from support.picky import PICKY, register_mended, register_picky
from support.runs import DAY, firesteel, kill_driver_at

pytestmark = pytest.mark.integration

LENIENT = PICKY | {"max_fraction: 0.001": "max_fraction: 0.1"}


def area_of(pipeline) -> StateStore:
    return StateStore(*locate(pipeline.loaded.spec.storage), pipeline.name, pipeline.loaded.profile)


def test_a_replay_scores_only_the_dead_letters_and_adds_them(project, spark, runs, tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    tracking = register_picky(folder)
    project = replace(project, tracking=tracking)
    first = project.pipeline(LENIENT)
    assert run_plan(first.plan(DAY), spark=spark, runs=runs).counts.dead_letter == 3
    before = project.published()
    assert [(letter.rows, letter.open) for letter in dead_letters(area_of(first), first.loaded.sink_uris)] == [
        (3, True)
    ]
    again = replay(first.plan(DAY, force=True), DAY, spark=spark)  # the same model: they fail again
    assert (again.exit_code, again.error[:6], again.counts.scored) == (RowErrorBudget.exit_code, "FS5005", 0)
    assert project.published() == before
    register_mended(folder, tracking)
    fixed = project.pipeline({**LENIENT, "models:/flight_delay@champion": "models:/picky/2"})
    result = replay(fixed.plan(DAY, force=True), DAY, spark=spark)
    assert (result.state, result.error, result.counts.scored) == ("published", "", 3)
    after = project.published()
    assert {path: data for path, data in after.items() if path in before} == before  # nothing was written again
    assert project.rows() == 60
    sink = f"{project.root}/scores"
    rows = pq.ParquetDataset([file.removeprefix("file://") for file in current_files(sink)]).read().to_pylist()
    assert sorted(row["flight_id"] for row in rows if row["_model_version"] == "2") == [
        f"{DAY}-{origin}-7" for origin in ("EWR", "JFK", "LGA")
    ]
    assert not any(letter.open for letter in dead_letters(area_of(first), first.loaded.sink_uris))
    assert replay(fixed.plan(DAY, force=True), DAY, spark=spark) is None  # never twice
    undone = firesteel(
        "rollback", "pipeline.yaml", "--param", f"root={project.root}", "--interval", DAY, folder=project.folder
    )
    assert undone.returncode == 0, undone.stderr
    assert project.published() == before
    shown = firesteel(
        "dead-letter", "ls", "pipeline.yaml", "--param", f"root={project.root}", "--json", folder=project.folder
    )
    assert sum(each["rows"] for each in json.loads(shown.stdout) if each["open"]) == 3
    assert verify(area_of(first), ("scores",)) == []
    assert verify_excluded(area_of(first), {"scores": (None, None)}, now_s=0.0) == []
    assert sum(bool(record.excluded) for record in Ledger(area_of(first)).history("scores", DAY)) == 2
    assert project.leftovers() == []


def test_letters_without_a_column_that_is_needed_now_are_refused(project, spark, runs, picky, flight_model):
    first = replace(project, tracking=picky).pipeline(LENIENT)
    run_plan(first.plan(DAY), spark=spark, runs=runs)
    before = project.published()
    result = replay(project.pipeline().plan(DAY, force=True), DAY, spark=spark)
    assert (result.exit_code, result.error[:6]) == (RowErrorBudget.exit_code, "FS5004")
    assert "dep_delay" in result.error
    assert project.published() == before


@pytest.mark.long
@pytest.mark.fault
def test_a_killed_backfill_resumes_with_the_same_model(project, spark, runs, tmp_path):
    pipeline = project.pipeline()
    start, end = DAY, "2013-06-03"
    plan = load_or_plan(pipeline, start, end, resume=False, on_progress=no_progress)
    file = tmp_path / "plan.json"
    file.write_text(plan.to_json(), encoding="utf-8")
    assert kill_driver_at(file, "journaled", 2).returncode == -signal.SIGKILL
    left = skip_published(load_or_plan(pipeline, start, end, resume=True, on_progress=no_progress))
    assert left.models == plan.models
    assert [interval.action for interval in left.intervals] == ["skip", "score", "score"]
    result = run_plan(left, spark=spark, runs=runs, keep_going=True)
    # The second was journaled: it is rolled forward, and then found to be published.
    assert [interval.state for interval in result.intervals] == ["skipped", "skipped", "published"]
    assert project.rows() == 180
    assert project.leftovers() == []
    delete_if_complete(left, start, end, result)
    with pytest.raises(PlanDrift) as caught:
        load_or_plan(pipeline, start, end, resume=True, on_progress=no_progress)
    assert caught.value.code == "FS6004"


def test_a_failed_interval_of_a_backfill_does_not_stop_the_others(project, spark, runs):
    plan = project.pipeline().plan(DAY, "2013-06-03")
    flights = Path(project.root.removeprefix("file://")) / "flights" / "dt=2013-06-02" / "origin=JFK" / "part-0.parquet"
    flights.write_bytes(flights.read_bytes() + b" ")
    result = run_plan(plan, spark=spark, runs=runs, keep_going=True)
    assert [interval.state for interval in result.intervals] == ["published", "failed", "published"]
    assert (result.exit_code, result.error[:6]) == (PlanDrift.exit_code, "FS6001")


def test_a_cancelled_run_publishes_nothing(project, spark, runs):
    pipeline = project.pipeline()
    run_id = ""

    def on_event(event):
        nonlocal run_id
        run_id = run_id or str(event.facts.get("run_id", ""))
        if event.kind == "staged":
            found = cancel(area_of(pipeline), ("scores",), run_id, who="ann@host", signal=False)
            assert [(each.interval, each.state) for each in found] == [(DAY, "cancelled")]

    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs, on_event=on_event)
    assert (result.exit_code, result.error[:6]) == (LeaseConflict.exit_code, "FS7503")
    assert project.published() == {}
    assert project.leftovers() == []
    with pytest.raises(LeaseConflict) as caught:
        cancel(area_of(pipeline), ("scores",), run_id, who="ann@host", signal=False)
    assert caught.value.code == "FS7504"
    assert run_plan(Plan.from_json(pipeline.plan(DAY).to_json()), spark=spark, runs=runs).state == "published"
