"""Args that refer to the interval, on Spark: every operator, a replay, `explain --spark` and `firesteel test` bind the same values."""

from __future__ import annotations

import shutil

import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.run.replay import replay
from firesteel.jobs.spark.explain import physical_plan
from firesteel.jobs.testing.bind import Binder
from firesteel.jobs.testing.load import load_cases
from firesteel.jobs.testing.run import run_cases
from firesteel.pipelines import Pipeline
from firesteel.pipelines.backend import default_backend
from support.scoring_project import DAY, ScoringProject
from support.specs import example_with

pytestmark = pytest.mark.integration

NEXT = "2024-01-02"
SQL = (
    "SELECT id, a, CAST(b AS DOUBLE) AS b, c, dt, origin FROM points "
    "WHERE dt = :day AND dt > :before AND '$${spark.app.name}' = :said AND (c > :floor OR c IS NULL) AND id < 12"
)
ARGS = 'day: "${interval.ds}", before: "${interval.ds} - 1d", said: "$${spark.app.name}"'


def two_days(folder) -> ScoringProject:
    project = ScoringProject(folder, f"file://{folder}/data")
    folder.mkdir(exist_ok=True)
    project.write_points(rows=30, files=1)
    points = folder / "data" / "points"
    shutil.copytree(points / f"dt={DAY}", points / f"dt={NEXT}")
    return project


def test_every_operator_binds_the_args_of_its_interval(spark, tmp_path, runs):
    found = {}
    for operator in ("arrow", "direct"):
        project = two_days(tmp_path / operator)
        project.plan(operator, sql=SQL, args=ARGS)
        plan = Pipeline.load(project.folder / "pipeline.yaml").plan(DAY, NEXT)
        assert plan.score_step.operator == operator
        result = run_plan(plan, spark=spark, runs=runs)
        assert result.state == "published", result.error
        assert {dict(interval.scoring)["operator"] for interval in result.intervals} == {operator}
        days = [folder.partition("/")[0] for folder in project.published().column("folder").to_pylist()]
        found[operator] = sorted(days), [interval.counts for interval in result.intervals]
    assert found["arrow"] == found["direct"]
    days, _ = found["arrow"]
    assert days.count(f"dt={DAY}") == days.count(f"dt={NEXT}") > 0
    again = replay(Pipeline.load(project.folder / "pipeline.yaml").plan(NEXT, force=True), NEXT, spark=spark)
    assert again.error.startswith("FS5005"), "the dead letters were read, and failed again"
    assert "2024-01-02" in physical_plan(plan, plan.intervals[1], spark)


def test_a_case_of_a_test_binds_the_args_of_its_interval(spark, tmp_path):
    spec = example_with(
        tmp_path / "project",
        {'args: {min_distance: "${param.min_distance}"}': 'args: {min_distance: 0, day: "${interval.ds}"}'},
        {"WHERE f.distance": "WHERE f.dt = :day AND f.distance"},
    )
    flight = "{flight_id: a, origin: JFK, sched_dep_time: 500, distance: 100, hour: 5}"
    file = spec.parent / "tests" / "a.yaml"
    file.write_text(
        f"test_version: 1\ncases:\n  - name: x\n    interval: 2013-06-03\n    given: {{flights: {{rows: [{flight}]}}}}\n"
        "    expect: {features: {count: 1}}\n",
        encoding="utf-8",
    )
    bound = Binder(spec, "", {}, default_backend()).bind(load_cases(spec, [file]))
    (result,) = run_cases(bound, default_backend(), lambda _: None, spark)
    assert not result.errors
    assert not result.differences
