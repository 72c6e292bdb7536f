"""A plan and results of the flights example with consistent numbers, for tests of reports and records."""

from __future__ import annotations

import math
from dataclasses import replace

from pydantic import JsonValue

from firesteel.pipelines.plan.model import (
    Column,
    Expectation,
    GatePlan,
    InputFile,
    IntervalPlan,
    ModelPlan,
    OnError,
    OutputColumn,
    Plan,
    ScoreStepPlan,
    SinkOutput,
    SinkPlan,
    SourceInput,
    SourcePlan,
    SqlStepPlan,
    TrackingPlan,
)
from firesteel.pipelines.result import Counts, ExpectationResult, GateResult, IntervalResult, RunResult

ORIGINS = ("EWR", "JFK", "LGA")
GATES = (
    GatePlan(
        "input_ok",
        "flights",
        (
            Expectation("expect_column_values_to_be_unique", (("column", "flight_id"),)),
            Expectation("expect_column_values_to_not_be_null", (("column", "dep_delay"), ("mostly", 0.98)), "warning"),
        ),
    ),
    GatePlan(
        "output_ok",
        "sink:scores",
        (
            Expectation(
                "expect_column_values_to_be_between", (("column", "p_delay"), ("max_value", 1), ("min_value", 0))
            ),
            Expectation("row_count_matches", (("less", "dead_letter"), ("of", "features"))),
        ),
    ),
)


def sample_plan(days: int = 3, root: str = "hdfs://namenode:8020/ml", tracking_uri: str = "") -> Plan:
    """Return the plan of the flights example for some days from 2013-06-01."""
    return Plan(
        pipeline="flight_delay_scores",
        profile="prod",
        owner="ml-ops@example.org",
        framework="firesteel 0.1.0",
        environment="firesteel 0.1.0, spark 4.3.0, mlflow 3.17.2",
        code_hash="a91f03c4d5e6" + "0" * 52,
        storage=f"{root}/_firesteel/flight_delay_scores",
        sources=(
            SourcePlan(
                "flights",
                "parquet",
                f"{root}/flights",
                (
                    Column("flight_id", "string", nullable=False),
                    Column("dep_delay", "double"),
                    Column("distance", "int"),
                ),
                (Column("dt", "date"), Column("origin", "string")),
                ("flight_id",),
            ),
            SourcePlan("weather", "parquet", f"{root}/weather", (Column("temp", "double"),), (Column("dt", "date"),)),
        ),
        models=(
            ModelPlan(
                "delay",
                "models:/flight_delay@champion",
                "models:/flight_delay/7",
                "7",
                "3c1f" * 16,
                187_331,
                "skops",
                "predict_proba",
                (Column("dep_delay", "double"), Column("distance", "int")),
            ),
        ),
        steps=(
            SqlStepPlan("features", "SELECT ...", (), ("flights", "weather"), (Column("dep_delay", "double"),)),
            ScoreStepPlan(
                "scored",
                "features",
                "delay",
                ("dep_delay", "distance"),
                ("flight_id", "dt", "origin"),
                (OutputColumn("p_delay", "double", "[1]"),),
                (Column("p_delay", "double"),),
                OnError("dead_letter", 1000, 0.001),
            ),
        ),
        gates=GATES,
        sinks=(
            SinkPlan(
                "scores",
                "scored",
                "parquet",
                f"{root}/scores",
                (Column("flight_id", "string"), Column("p_delay", "double")),
                ("dt", "origin"),
                "replace_partitions",
            ),
        ),
        intervals=tuple(_interval_plan(day) for day in range(1, days + 1)),
        tracking=TrackingPlan(tracking_uri, "/batch/flight_delay"),
        master="yarn",
        spec_text="spec_version: 1\nname: flight_delay_scores\n",
    )


def _interval_plan(day: int) -> IntervalPlan:
    id_ = f"2013-06-{day:02d}"
    files = tuple(
        InputFile(f"dt={id_}/origin={origin}/part-0.parquet", 40_000 + day, 1_700_000_000_000) for origin in ORIGINS
    )
    weather = (InputFile(f"dt={id_}/part-0.parquet", 4_000, 1_700_000_000_000),)
    return IntervalPlan(
        id=id_,
        start=f"{id_}T00:00:00+00:00",
        end=f"2013-06-{day + 1:02d}T00:00:00+00:00",
        action="score",
        reason="not published yet" if day != 2 else "changed since it was published: spec, model or input",
        plan_hash=f"{day:02d}ab" * 16,
        inputs=(SourceInput("flights", (f"dt={id_}",), files), SourceInput("weather", (f"dt={id_}",), weather)),
        outputs=(SinkOutput("scores", tuple(f"dt={id_}/origin={origin}" for origin in ORIGINS)),),
    )


def published(plan: Plan, day: int, *, dead: int = 0) -> IntervalResult:
    """Return a published interval."""
    interval = plan.intervals[day - 1]
    rows = 880 + 17 * day
    counts = Counts(rows, rows - dead, dead)
    return IntervalResult(
        interval=interval.id,
        state="published",
        reason=interval.reason,
        plan_hash=interval.plan_hash,
        counts=counts,
        partitions=interval.outputs[0].directories,
        files=3,
        bytes=41_872 + day,
        gates=(_input_gate(rows, nulls=9), _output_gate(counts, bad=0)),
        seconds=(
            ("read", 0.8),
            ("input_gate", 1.9),
            ("score", 4.2),
            ("stage", 1.1),
            ("output_gate", 1.6),
            ("publish", 0.3),
        ),
        distributions=(("p_delay", _distribution(counts.scored)),),
        scoring=_scoring(counts.scored),
        worker_seconds=(("load", 2.5), ("read", 1.4), ("decode", 0.3), ("model", 3.1), ("encode", 0.2), ("write", 0.4)),
    )


def _scoring(rows: int) -> tuple[tuple[str, JsonValue], ...]:
    backend: dict[str, JsonValue] = {
        "backend": "folded linear", "reason": "agrees with pyfunc within 1e-06", "checked_rows": 261, "largest_difference": 3e-16
    }  # fmt: skip
    return (
        ("operator", "arrow"),
        ("operator_reason", "features joins two relations"),
        ("accelerate", "auto"),
        ("rows_by_backend", {"folded linear": rows - 8, "pyfunc": 8}),
        ("backends", [backend]),
        ("model_loads", 2),
        ("batches", 3),
        ("largest_batch", 600),
    )


def failed(plan: Plan, day: int, error: str) -> IntervalResult:
    """Return an interval whose output gate failed."""
    done = published(plan, day)
    return replace(
        done,
        state="failed",
        partitions=(),
        files=0,
        bytes=0,
        error=error,
        gates=(done.gates[0], _output_gate(done.counts, bad=12)),
    )


def sample_result(plan: Plan, intervals: tuple[IntervalResult, ...], **changes) -> RunResult:
    """Return the result of a run of these intervals."""
    states = {interval.state for interval in intervals}
    state = "failed" if "failed" in states else "published" if "published" in states else "skipped"
    result = RunResult(
        run_id="20130604T101112-7f3a",
        pipeline=plan.pipeline,
        profile=plan.profile,
        state=state,
        intervals=intervals,
        started_at="2013-06-04T10:11:12+00:00",
        seconds=38.25,
        exit_code=3 if state == "failed" else 0,
    )
    return replace(result, **changes)


def _input_gate(rows: int, nulls: int) -> GateResult:
    return GateResult(
        "input_ok",
        "flights",
        success=True,
        expectations=(
            ExpectationResult(
                "expect_column_values_to_be_unique",
                "flight_id",
                "critical",
                success=True,
                observed=1.0,
                element_count=rows,
                unexpected_count=0,
            ),
            ExpectationResult(
                "expect_column_values_to_not_be_null",
                "dep_delay",
                "warning",
                success=nulls / rows <= 0.02,
                observed=round(1 - nulls / rows, 6),
                element_count=rows,
                unexpected_count=nulls,
            ),
        ),
        seconds=1.9,
    )


def _output_gate(counts: Counts, bad: int) -> GateResult:
    return GateResult(
        "output_ok",
        "sink:scores",
        success=not bad,
        expectations=(
            ExpectationResult(
                "expect_column_values_to_be_between",
                "p_delay",
                "critical",
                success=not bad,
                observed=round(1 - bad / counts.scored, 6),
                element_count=counts.scored,
                unexpected_count=bad,
            ),
            ExpectationResult(
                "row_count_matches",
                "",
                "critical",
                success=True,
                observed=counts.scored,
                note=f"{counts.scored:,} rows (features {counts.rows_in:,} - {counts.dead_letter} dead letter)",
            ),
        ),
        seconds=1.6,
    )


def _distribution(rows: int) -> dict:
    """Return a right-skewed histogram of `rows` values over [0, 1] in 20 bins."""
    weights = [math.exp(-((index - 2.5) ** 2) / 14) + 0.08 * math.exp(-((index - 15) ** 2) / 10) for index in range(20)]
    counts = [int(rows * weight / sum(weights)) for weight in weights]
    counts[2] += rows - sum(counts)
    histogram = [[round(index / 20, 2), round((index + 1) / 20, 2), count] for index, count in enumerate(counts)]
    mean = sum((left + right) / 2 * count for left, right, count in histogram) / rows
    return {
        "rows": rows,
        "nulls": 0,
        "not_finite": 0,
        "min": 0.0113,
        "max": 0.9721,
        "mean": mean,
        "histogram": histogram,
    }
