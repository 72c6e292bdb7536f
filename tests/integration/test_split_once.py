"""Rows that gates exclude from SQL that returns different rows each time: each row is either scored or excluded."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.dataset as pads
import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark import lower
from firesteel.pipelines.plan.model import Plan, SqlStepPlan
from firesteel.pipelines.storage.open import locate
from support.scoring_project import ScoringProject

pytestmark = pytest.mark.integration

LOW = "{type: expect_column_values_to_be_between, column: b, max_value: 0.5, on_fail: %s}"
SELECT = "SELECT id, a, %s AS b, c, dt, origin FROM points WHERE c > :floor OR c IS NULL"
SAME = "CAST(pmod(3, 2) AS DOUBLE)"
CHANGING = {
    "random": "rand()",
    "the clock": "CAST((unix_micros(current_timestamp()) + id) % 2 AS DOUBLE)",
    "uuids": "CAST(conv(substr(uuid(), 1, 4), 16, 10) AS DOUBLE) / 65536",
}


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    """A run refuses these values. SQL that differs for other reasons, such as `LIMIT`, cannot be made to differ in a test."""
    monkeypatch.setattr(lower, "values_that_change", lambda _frame: "")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    made = ScoringProject(folder, f"file://{folder}/data")
    made.write_points(rows=100)
    return made


def changing(plan: Plan, value: str = "rand()") -> Plan:
    """The plan, whose steps compute a value that differs each time: a spec with such a value is refused."""
    steps = (
        replace(step, sql=step.sql.replace(SAME, value)) if isinstance(step, SqlStepPlan) else step
        for step in plan.steps
    )
    return replace(plan, steps=tuple(steps))


def excluded(project: ScoringProject, run_id: str) -> set[int]:
    folder = f"{project.root.removeprefix('file://')}/_firesteel/points/quarantine/features"
    rows = pads.dataset(folder, format="parquet", partitioning="hive").to_table().to_pylist()
    return {row["id"] for row in rows if row["run_id"] == run_id}


@pytest.mark.parametrize("what", CHANGING)
def test_each_row_is_scored_or_quarantined(spark, project, runs, what):
    gates = "gates: {g: {on: features, expect: [" + LOW % "quarantine" + "]}}\n"
    plan = changing(project.plan(sql=SELECT % SAME, gates=gates, force=True), CHANGING[what])
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    counts = result.counts
    dead = {each[0] for each in project.dead()}
    scored, quarantined = set(project.published().column("id").to_pylist()), excluded(project, result.run_id)
    assert not scored & quarantined
    assert (len(scored), len(quarantined)) == (counts.scored, counts.quarantined)
    (gate,) = result.intervals[0].gates
    assert gate.expectations[0].unexpected_count == counts.quarantined
    assert len(scored | quarantined | dead) == counts.rows_in
    assert 0 < counts.quarantined < counts.rows_in
    storage, base = locate(f"{project.root}/_firesteel/points/scratch")
    assert not list(storage.walk(base))


def test_dropped_rows_and_two_gates_in_a_row_add_up_too(spark, project, runs):
    second = f"  again: {{sql: 'SELECT id, a, {SAME} AS b, c, dt, origin FROM features'}}\n  scored:"
    gates = (
        "gates:\n  g: {on: features, expect: [" + LOW % "drop" + "]}\n"
        "  h: {on: again, expect: [" + LOW % "quarantine" + "]}\n"
    )
    project.plan(sql=SELECT % SAME)
    path = project.folder / "pipeline.yaml"
    text = path.read_text().replace("  scored:", second, 1).replace("input: features", "input: again")
    path.write_text(text + gates)
    from firesteel.pipelines import Pipeline

    result = run_plan(changing(Pipeline.load(path).plan("2024-01-01", force=True)), spark=spark, runs=runs)
    assert result.state == "published", result.error
    counts = result.counts
    assert 0 < counts.dropped < counts.rows_in
    assert 0 < counts.quarantined < counts.rows_in - counts.dropped
    assert project.published().num_rows == counts.scored


def test_what_a_failed_run_copied_is_removed(spark, project, runs):
    gates = (
        "gates:\n  g: {on: features, expect: [" + LOW % "quarantine" + "]}\n"
        "  never: {on: 'sink:scores', expect: [{type: expect_table_row_count_to_equal, value: 1}]}\n"
    )
    seen = []

    def look(event):
        if event.kind == "staged":
            storage, base = locate(f"{project.root}/_firesteel/points/scratch")
            seen.extend(file.path for file in storage.walk(base))

    result = run_plan(
        changing(project.plan(sql=SELECT % SAME, gates=gates, force=True)), spark=spark, runs=runs, on_event=look
    )
    assert result.error.startswith("FS7001"), result.error
    assert seen
    storage, base = locate(f"{project.root}/_firesteel/points/scratch")
    assert not list(storage.walk(base))
