"""A challenger in whole runs: on each operator, published or not, and whatever it does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.compute as pc
import pytest

from firesteel.conf.errors import ModelError
from firesteel.jobs.cli.console import show_result
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.udfs.attempts import DIED
from support.deadly import KILLED, save_deadly
from support.models import save
from support.moody import save_moody
from support.scoring_project import DAY, ScoringProject

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Challengers, saved once."""
    folder = tmp_path_factory.mktemp("challengers")
    save("ridge", folder / "ridge")
    save_deadly(folder / "deadly")
    for mood in ("obliging", "fails on all", "does not load"):
        save_moody(folder / mood.replace(" ", "-"), mood)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """One project for all: what differs is the challenger. A run of it costs no new registry and no new data."""
    folder = tmp_path_factory.mktemp("points")
    made = ScoringProject(folder, f"file://{folder}/data", "ridge")
    made.write_points(rows=300)
    return made


def run(spark, runs, plan):
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    return result


def record_of(project):
    return Ledger(project.store).published("scores", DAY)


def test_each_operator_scores_both_in_one_scan_and_publishes_the_champion_alone(spark, base, runs, models, capsys):
    run(spark, runs, base.plan("direct", force=True))
    columns, right = base.published().column_names, base.published()
    counts, agreements = record_of(base).counts, []
    project = replace(base, challenger=f"{{uri: '{models}/obliging', tolerance: 5}}")
    for operator in ("pandas", "arrow", "direct"):
        plan = project.plan(operator, force=True)
        assert plan.score_step.operator == operator
        assert plan.score_step.challenger.features == ("a",)
        result = run(spark, runs, plan)
        interval = result.intervals[0]
        table = project.published()
        assert table.column_names == columns
        assert table.column("id").equals(right.column("id"))
        # BLAS rounds by the number of rows in a batch, and operators cut batches at other rows.
        np.testing.assert_allclose(table.column("p").to_numpy(), right.column("p").to_numpy(), rtol=1e-12, atol=1e-12)
        assert interval.counts == counts
        agreements.append(interval.agreement)
        assert record_of(project).agreement == interval.agreement.without_samples()
        assert dict(interval.worker_seconds)["challenger"] > 0
    first = agreements[0]
    assert (first.rows, first.failed, first.left_out, first.problem) == (interval.counts.scored, 0, 0, "")
    for other in agreements[1:]:
        assert (other.rows, other.outputs[0].compared, other.outputs[0].within) == (
            first.rows,
            first.outputs[0].compared,
            first.outputs[0].within,
        )
        for name in ("mean_difference", "max_difference", "correlation"):
            assert getattr(other.outputs[0], name) == pytest.approx(getattr(first.outputs[0], name), rel=1e-9)
    tracked = mlflow.MlflowClient(tracking_uri=plan.tracking.uri).get_run(result.mlflow_run_id)
    assert tracked.data.metrics["challenger.rows"] == first.rows
    assert tracked.data.metrics["challenger.p.correlation"] == pytest.approx(first.outputs[0].correlation)
    assert tracked.data.params["challenger.m"].endswith(f"sha {plan.score_step.challenger.pinned.digest[:12]}")
    page = Path(result.report).read_text(encoding="utf-8")
    assert "Champion against challenger" in page
    assert "The challenger's scores are not published." in page
    assert page.count('class="point"') == 2 * len(first.outputs[0].sample) > 100
    capsys.readouterr()
    show_result(result, as_json=False)
    shown = capsys.readouterr().out
    assert f"{first.rows:,} rows compared" in shown
    assert "p: " in shown
    assert "correlation" in shown
    assert run_plan(project.plan("direct"), spark=spark, runs=runs).state == "skipped"


@pytest.mark.parametrize("operator", ["arrow", "direct"])
def test_a_published_challenger_stands_in_columns_of_its_own(spark, base, runs, models, operator):
    project = replace(base, challenger=f"'{models}/obliging'", publish_challenger="next_")
    agreement = run(spark, runs, project.plan(operator, force=True)).intervals[0].agreement
    table = project.published()
    assert table.column_names[:4] == ["id", "c", "p", "next_p"]
    doubled = [row.a for row in spark.read.parquet(f"{project.root}/points").selectExpr("a * 2 AS a").collect()]
    known = {round(value, 9) for value in doubled if value is not None}
    assert {round(value - 0.005, 9) for value in table.column("next_p").drop_null().to_pylist()} <= known
    both = pc.and_(table.column("p").is_valid(), table.column("next_p").is_valid())
    p, challenger = (table.filter(both).column(name).to_numpy() for name in ("p", "next_p"))
    apart = np.abs(p - challenger)[np.isfinite(p) & np.isfinite(challenger)]
    assert agreement.outputs[0].mean_difference == pytest.approx(apart.mean())
    assert agreement.outputs[0].max_difference == pytest.approx(apart.max())


@pytest.mark.parametrize(
    ("mood", "operator", "problem"),
    [
        ("fails-on-all", "direct", "FS5006 the challenger failed on 100 rows of a task: ValueError."),
        ("does-not-load", "arrow", "FS3012 model m challenger cannot be loaded in a worker: RuntimeError: not today"),
    ],
)
def test_one_that_fails_is_counted_and_harms_nothing(spark, base, runs, models, mood, operator, problem):
    project = replace(base, challenger=f"'{models}/{mood}'", publish_challenger="next_")
    result = run(spark, runs, project.plan(operator, force=True))
    found, counts = result.intervals[0].agreement, result.counts
    assert found.problem == problem
    assert (found.rows, found.failed + found.left_out) == (0, counts.scored)
    assert dict(found.errors) == ({"ValueError": found.failed} if found.failed else {})
    table = project.published()
    assert (table.column("next_p").null_count, table.num_rows) == (counts.scored, counts.scored)
    assert not [letter for letter in project.dead() if letter[1] == "ValueError" and letter[2] == "no"]
    assert problem.rstrip(".") in Path(result.report).read_text(encoding="utf-8")


@pytest.mark.parametrize("operator", ["arrow", "direct"])
def test_one_that_ends_the_worker_is_left_out_and_no_row_of_the_champion_is_lost(spark, base, runs, models, operator):
    project = replace(base, challenger=f"'{models}/deadly'")
    deadly = f"SELECT id, IF(id < 900, {KILLED}D, a) AS a, CAST(b AS DOUBLE) AS b, c, dt, origin FROM points WHERE c > :floor"
    plan = project.plan(operator, sql=deadly, force=True)
    assert plan.score_step.operator == operator
    result = run(spark, runs, plan)
    found, counts = result.intervals[0].agreement, result.counts
    assert found.problem == DIED
    assert (found.rows, found.left_out) == (0, counts.scored)
    assert counts.scored > 1000
    assert counts.balanced
    assert not [error for _, error, _ in project.dead() if error == "WorkerDied"]


def test_one_that_is_gone_by_now_is_said_unless_it_is_published(spark, base, tmp_path, runs, models):
    copy = tmp_path / "copy"
    shutil.copytree(models / "obliging", copy)
    quiet = replace(base, challenger=f"'{copy}'")
    plans = [each.plan(force=True) for each in (quiet, replace(quiet, publish_challenger="next_"))]
    (copy / "MLmodel").write_text((copy / "MLmodel").read_text() + "\n# changed\n")
    with pytest.raises(ModelError, match="FS3011"):
        run_plan(plans[1], spark=spark, runs=runs)
    result = run(spark, runs, plans[0])
    assert result.intervals[0].agreement.problem.startswith("FS3011")
    assert json.loads(result.to_json())["intervals"][0]["agreement"]["left_out"] == result.counts.scored
