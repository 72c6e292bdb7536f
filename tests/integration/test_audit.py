"""A change of gates checks the published rows again and scores nothing."""

from __future__ import annotations

import json
import shutil

import pytest

import firesteel
from firesteel.conf.errors import GateFailed
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.publish.dead_letters import dead_letters
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import person
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.storage.identity import canonical
from support.deadly import RAISES
from support.runs import firesteel as command
from support.scoring_project import DAY, MAPPED, ScoringProject, rows_of

pytestmark = pytest.mark.integration

GATES = """
gates:
  input_ok: {{on: points, expect: [{{type: expect_column_values_to_not_be_null, column: a, mostly: {mostly}}}]}}
  output_ok:
    on: "sink:scores"
    expect:
      - {{type: expect_column_values_to_be_between, column: p, min_value: 0, max_value: {most}}}
      - {{type: row_count_matches, of: features, less: dead_letter}}
"""


def test_changed_gates_audit_the_published_rows_without_the_model(tmp_path, spark, runs):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=60, files=1)
    plan = project.plan(gates=GATES.format(mostly=0.5, most=1))
    assert run_plan(plan, spark=spark, runs=runs).state == "published"
    ledger, before = Ledger(project.store), rows_of(project.published())
    pinned = ledger.published("scores", DAY)

    plan = project.plan(gates=GATES.format(mostly=0.6, most=1.5))
    assert (plan.intervals[0].action, plan.intervals[0].audited_gates) == ("audit", ("input_ok", "output_ok"))
    model = tmp_path / f"model-{project.kind}"
    shutil.move(model, tmp_path / "away")  # nothing is scored: no model is read
    result = run_plan(plan, spark=spark, runs=runs)
    shutil.move(tmp_path / "away", model)
    assert (result.state, result.intervals[0].state, result.exit_code) == ("skipped", "audited", 0), result.error
    assert [(gate.gate, gate.success) for gate in result.intervals[0].gates] == [
        ("input_ok", True),
        ("output_ok", True),
    ]
    assert "score and stage" not in dict(result.intervals[0].seconds)
    audited = ledger.published("scores", DAY)
    assert audited
    assert pinned
    assert (audited.action, audited.files, audited.counts) == ("audit", pinned.files, pinned.counts)
    assert project.plan(gates=GATES.format(mostly=0.6, most=1.5)).intervals[0].action == "skip"

    for _ in range(2):  # a suspect interval is audited again until it is corrected
        strict = project.plan(gates=GATES.format(mostly=0.6, most=1e-9))
        assert strict.intervals[0].audited_gates == ("output_ok",)
        result = run_plan(strict, spark=spark, runs=runs)
        assert (result.state, result.exit_code) == ("failed", 3)
        assert "The rows of 2024-01-01 that are published are now suspect." in result.error
        assert "`firesteel rollback --interval 2024-01-01`" in result.error
    assert ledger.suspect("scores", DAY, canonical(project.sink_uri)).startswith("FS7001 gate output_ok")
    status = json.loads(command("status", "--start", DAY, "--json", folder=tmp_path).stdout)
    assert status["intervals"][0]["suspect"].startswith("FS7001 gate output_ok")
    assert firesteel.read(spark, f"{tmp_path}/data/scores").count() == pinned.counts.scored
    with pytest.raises(GateFailed, match="suspect"):
        firesteel.read(spark, f"{tmp_path}/data/scores", refuse_suspect=True)
    assert rows_of(project.published()) == before
    assert run_plan(project.plan(gates=GATES.format(mostly=0.6, most=2)), spark=spark, runs=runs).exit_code == 0
    assert ledger.suspect("scores", DAY, canonical(project.sink_uri)) == ""
    rollback(project.store, "scores", f"{tmp_path}/data/scores", DAY, person("rollback"))
    assert not (tmp_path / f"data/scores/dt={DAY}").exists()


def test_dead_letters_stay_open_after_an_audit(tmp_path, spark, runs):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data", "deadly")
    project.write_points(rows=60, files=1)
    sql = MAPPED.replace("a * 2 AS a", f"CASE WHEN id % 50 = 7 THEN CAST({RAISES} AS DOUBLE) ELSE a * 2 END AS a")
    gates = GATES.replace("min_value: 0, max_value: {most}", "min_value: -1.0e+9, max_value: {most}")
    assert (
        run_plan(project.plan(sql=sql, gates=gates.format(mostly=0.5, most=1e9)), spark=spark, runs=runs).exit_code == 0
    )
    before = [(file.run_id, file.open) for file in dead_letters(project.store, {"scores": project.sink_uri})]
    result = run_plan(project.plan(sql=sql, gates=gates.format(mostly=0.5, most=2e9)), spark=spark, runs=runs)
    assert (result.intervals[0].state, result.exit_code) == ("audited", 0), result.error
    assert [(file.run_id, file.open) for file in dead_letters(project.store, {"scores": project.sink_uri})] == before
    assert before
    assert all(is_open for _, is_open in before)
