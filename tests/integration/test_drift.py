"""Drift gates on Spark: what Spark finds is what the driver finds, in the pass that there is anyway; and whole runs."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import GateFailed
from firesteel.jobs.gates import run_gate
from firesteel.jobs.gates.drift import Baseline, DriftChecks
from firesteel.jobs.gates.measure import Measurement
from firesteel.jobs.gates.values import profile_of
from firesteel.jobs.run import staged_files
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import Expectation, GatePlan
from firesteel.pipelines.profile import Profile
from firesteel.pipelines.publish.ledger import Ledger
from support.scoring_project import DAY, ScoringProject

pytestmark = pytest.mark.integration

SCHEMA = "d double, f float, i int, l bigint, m decimal(12,3), s string, b boolean, t date, `odd `` name` double"
ODD = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 1e6, -1e6]
TEXTS = [None, "", "a", "Zürich", "日本", "𝄞", "a\nb", *(f"c{number}" for number in range(30))]


def _rows(chance, rows):
    def number(scale=1.0):
        return chance.choice(ODD) if chance.random() < 0.2 else chance.gauss(0, scale)

    return [
        (
            number(),
            number(),
            chance.choice([None, *range(12)]),
            chance.choice([None, (1 << 53) + 1, -(1 << 62), *range(5)]),
            chance.choice([None, Decimal(chance.randint(-9999, 9999)) / 1000]),
            TEXTS[min(int(chance.expovariate(0.2)), len(TEXTS) - 1)],
            chance.choice([None, True, True, False]),
            None,
            chance.choice([1.0, 1.0, None]),
        )
        for _ in range(rows)
    ]


def _by_spark(frame, drifts, least_rows):
    gate = GatePlan("g", "r", tuple(drift(name, rows_min=least_rows) for name in frame.columns if name != "t"))
    gate = replace(gate, expectations=(*gate.expectations, drift("t", rows_min=least_rows, null_rate_max_change=0.1)))
    return gate, run_gate(gate, frame, drifts=drifts)


def drift(column, rows_min=500, **limits) -> Expectation:
    given = {"against": "last_success", "column": column, "rows_min": rows_min, **(limits or {"psi_max": 0.2})}
    return Expectation("drift", tuple(sorted(given.items())))


@pytest.mark.parametrize("rows", [0, 1, 80, 700])
def test_spark_and_the_driver_find_the_same_profile_with_and_without_bins(spark, rows):
    seed = f"firesteel {rows}"
    chance = random.Random(seed)
    first, second = (spark.createDataFrame(_rows(chance, rows), SCHEMA) for _ in range(2))
    by_spark = DriftChecks()
    gate, result = _by_spark(first, by_spark, least_rows=1)
    assert all(expectation.success for expectation in result.expectations)
    found: dict[str, Profile] = {column: each for (_, column), each in by_spark.profiles.items()}
    assert len(found) == (9 if rows else 0)
    _same(found, _by_driver(first, gate, DriftChecks()), seed)
    if not rows:
        return

    def earlier(_on, column):
        return Baseline(found[column], "before")

    again = DriftChecks(earlier)
    _, result = _by_spark(second, again, least_rows=1)
    now = {column: each for (_, column), each in again.profiles.items()}
    _same(now, _by_driver(second, gate, DriftChecks(earlier)), seed)
    if rows > 80:
        assert all(now[name].bins == found[name].bins for name in ("d", "f", "i", "s", "b"))
        drifted = [expectation.column for expectation in result.expectations if not expectation.success]
        assert not drifted, "the same distribution"


def _by_driver(frame, gate, drifts):
    table = frame.toArrow()
    types = dict(frame.dtypes)
    return {
        name: profile_of(wanted, [table.column(name).slice(0, 30), table.column(name).slice(30)], least_rows=1)
        for name, wanted in drifts.measurements(gate, types).items()
        if table.num_rows
    }


def _same(spark_found, driver_found, seed):
    assert spark_found.keys() == driver_found.keys()
    for name, one in spark_found.items():
        other = driver_found[name]
        for moment in ("mean", "std"):
            a, b = getattr(one, moment), getattr(other, moment)
            assert (a is None) == (b is None), (seed, name, moment)
            scale = max(1.0, other.std or 0.0)
            assert a is None or a == pytest.approx(b, rel=1e-9, abs=1e-9 * scale), (seed, name, moment)
        assert replace(one, mean=None, std=None) == replace(other, mean=None, std=None), (seed, name)


def test_drift_costs_no_job_more_than_the_expectations_beside_it(spark):
    frame = spark.range(2000).selectExpr("id", "id % 7 AS k", "string(id % 5) AS s")
    plain = GatePlan("g", "r", (Expectation("expect_column_values_to_not_be_null", (("column", "id"),)),))
    drifting = replace(plain, expectations=(*plain.expectations, drift("id"), drift("k"), drift("s")))
    first = DriftChecks()
    run_gate(drifting, frame, drifts=first)
    earlier = DriftChecks(lambda on, column: Baseline(first.profiles[on, column], "before"))

    def jobs(gate):
        group = f"drift-{len(gate.expectations)}"
        spark.sparkContext.setJobGroup(group, group)
        try:
            result = run_gate(gate, frame, drifts=earlier)
        finally:
            spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
        assert result.success
        return len(spark.sparkContext.statusTracker().getJobIdsForGroup(group))

    assert jobs(drifting) == jobs(plain) > 0


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (drift("nope"), "FS7003 gate g on r: drift on `nope` cannot be evaluated: the column does not exist"),
        (drift("s", mean_shift_max=1.0), "drift on `s` cannot be evaluated: a string has no mean"),
        (drift("bad"), "drift on `bad` cannot be evaluated: Spark raised DIVIDE_BY_ZERO"),
    ],
)
def test_a_column_that_cannot_be_looked_at_is_no_pass(spark, expectation, message):
    frame = spark.range(10).selectExpr("string(id) AS s", "1.5D / (id - 3) AS bad")
    with pytest.raises(GateFailed, match=message.replace("(", r"\(")):
        run_gate(GatePlan("g", "r", (expectation,)), frame)


GATES = """
gates:
  input_ok: {{on: points, expect: [{{type: drift, column: c, psi_max: 0.2, null_rate_max_change: 0.1}}]}}
  output_ok:
    on: sink:scores
    expect:
      - {{type: expect_column_values_to_not_be_null, column: id}}
      - {{type: drift, column: p, against: last_success, psi_max: {psi_max}, mean_shift_max: 2, severity: {severity}}}
      - {{type: drift, column: origin, psi_max: 0.2}}
"""


@pytest.fixture
def project(tmp_path):
    """Five days: the second as the first, the third with `a` moved, the fourth with few rows, the fifth without `c`."""
    made = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    made.write_points()
    folder = tmp_path / "data" / "points"
    changes = {
        2: lambda table: table,
        3: lambda table: table.set_column(1, "a", pc.add(table.column("a"), 60.0)),
        4: lambda table: table.slice(0, 10),
        5: lambda table: table.set_column(3, "c", pa.nulls(table.num_rows, pa.float64())),
    }
    for path in sorted(folder.rglob("*.parquet")):
        for day, change in changes.items():
            target = folder / f"dt=2024-01-0{day}" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(change(pq.read_table(path, partitioning=None)), target)
    return made


def ledger(project):
    return Ledger(project.store)


def run(spark, runs, project, start, end="", psi_max=0.2, severity="critical"):
    project.plan(gates=GATES.format(psi_max=psi_max, severity=severity))
    plan = Pipeline.load(project.folder / "pipeline.yaml").plan(start, end or start)
    return run_plan(plan, spark=spark, runs=runs)


def test_drift_of_the_scores_stops_the_day_that_drifts_and_leaves_those_before(spark, project, runs):
    result = run(spark, runs, project, DAY, "2024-01-03")
    assert [interval.state for interval in result.intervals] == ["published", "published", "failed"]
    assert (result.exit_code, result.error[:6]) == (3, "FS7001")
    assert "drift on p: PSI" in result.error
    assert "expected PSI at most 0.2, mean shift at most 2 standard deviations against the last success" in result.error
    assert "Nothing was published" in result.error
    folders = set(project.published().column("folder").to_pylist())
    assert {folder.partition("/")[0] for folder in folders} == {f"dt={DAY}", "dt=2024-01-02"}
    first, second, third = ([e for gate in interval.gates for e in gate.expectations] for interval in result.intervals)
    assert [each.note for each in first if each.type == "drift"] == ["no baseline: this is the first success"] * 3
    assert [(each.observed["psi"], each.note) for each in second if each.type == "drift"] == [
        (0, f"baseline {DAY}")
    ] * 3
    assert [each.success for each in third] == [True, True, False, True]
    record = ledger(project).published("scores", "2024-01-02")
    assert {(profile.on, profile.column) for profile in record.profiles} == {
        ("points", "c"),
        ("sink:scores", "p"),
        ("sink:scores", "origin"),
    }
    page = (runs / result.run_id / "report.html").read_text()
    assert "PSI above limit" in page
    assert "PSI at most 0.2" in page
    assert ledger(project).latest("scores", "2024-01-03").profiles == ()

    warned = run(spark, runs, project, "2024-01-03", severity="warning")
    assert warned.state == "published", warned.error
    assert "output_ok" in warned.to_json()
    after = run(spark, runs, project, "2024-01-04", "2024-01-05")
    (few, lost) = ([e for gate in interval.gates for e in gate.expectations] for interval in after.intervals)
    assert after.intervals[0].state == "published", after.error
    assert few[0].note == "not compared: 60 rows in this interval, fewer than 500"
    assert all(each.note.startswith("not compared") for each in few if each.type == "drift")
    assert not lost[0].success, "all of c is null"
    assert lost[0].note == "baseline 2024-01-03; PSI above limit; null rate change above limit"


def test_the_executors_find_in_much_data_what_the_driver_finds_in_little(spark, project, runs, monkeypatch):
    run(spark, runs, project, DAY)
    ours = {(profile.on, profile.column): profile for profile in ledger(project).published("scores", DAY).profiles}
    with monkeypatch.context() as patched:
        patched.setattr(staged_files, "MAX_VALUES", 1)
        forced = Pipeline.load(project.folder / "pipeline.yaml").plan(DAY, force=True)
        result = run_plan(forced, spark=spark, runs=runs)
    assert result.state == "published", result.error
    sparks = {(profile.on, profile.column): profile for profile in ledger(project).published("scores", DAY).profiles}
    p, other = ours["sink:scores", "p"], sparks["sink:scores", "p"]
    assert (p.bins, p.counts, p.rows) == (other.bins, other.counts, other.rows)
    drifted = [
        expectation
        for gate in result.intervals[0].gates
        for expectation in gate.expectations
        if expectation.type == "drift"
    ]
    assert [(each.success, each.note) for each in drifted] == [(True, f"baseline {DAY}")] * 3
    assert isinstance(Measurement("r", "p", "double", None).aggregates(), dict)
