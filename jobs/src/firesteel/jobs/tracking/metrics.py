"""The metrics of an interval and of a run, by MLflow name."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from firesteel.jobs.gates.check import DRIFT
from firesteel.jobs.report.agreement import combine_agreements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Metric

    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import Agreement, ExecutorUse, IntervalResult, RunResult

_SUMMED = ("challenger.rows", "challenger.failed", "challenger.left_out")


def _agreement_metrics(agreement: Agreement | None) -> dict[str, float]:
    """Return `challenger.rows`, `.failed`, `.left_out`, `challenger.OUTPUT.correlation` and others."""
    if agreement is None:
        return {}
    metrics: dict[str, float] = dict(zip(_SUMMED, (agreement.rows, agreement.failed, agreement.left_out), strict=True))
    for output in agreement.outputs:
        metric_output = _NO_METRIC.sub("_", output.output)
        for name in ("mean_difference", "max_difference", "correlation", "within", "alike"):
            value = getattr(output, name)
            if value is not None:
                metrics[f"challenger.{metric_output}.{name}"] = value
    return metrics


_NO_METRIC = re.compile(r"[^\w ./:-]")
"""Characters that MLflow does not allow in metric names."""
_CHARTED = (
    "rows_in",
    "scored",
    "dead_letter",
    "quarantined",
    "dropped",
    "bytes",
    "rows_per_second",
    "gate.",
    "drift.",
    "challenger.",
)
"""Names, or prefixes of names, of the metrics with a step per interval."""
_BATCH = 1000
"""Most metrics that MLflow takes in one call."""
_COUNTED = ("model_loads", "batches", "largest_batch", "resumed_rows")


def interval_metrics(result: IntervalResult) -> dict[str, float]:
    """Return the metrics of one interval by MLflow name."""
    stages = dict(result.seconds)
    total = sum(stages.values())
    metrics: dict[str, float] = {
        **asdict(result.counts),
        "files": result.files,
        "bytes": result.bytes,
        "seconds": total,
    }
    metrics |= {f"seconds.{stage}": seconds for stage, seconds in stages.items()}
    workers = dict(result.worker_seconds)
    metrics |= {f"worker_seconds.{phase.replace(' ', '_')}": seconds for phase, seconds in workers.items()}
    if workers.get("model"):
        metrics["rows_per_model_second"] = result.counts.scored / workers["model"]
    scoring = dict(result.scoring)
    metrics |= {name: float(str(scoring[name])) for name in _COUNTED if name in scoring}
    if total > 0:
        metrics["rows_per_second"] = result.counts.rows_in / total
    if result.gates:
        verdicts = [verdict for gate in result.gates for verdict in gate.expectations]
        metrics["gates_passed"] = sum(gate.success for gate in result.gates)
        metrics["gates_failed"] = sum(not gate.success for gate in result.gates)
        metrics["expectations_passed"] = sum(verdict.success for verdict in verdicts)
        metrics["expectations_failed"] = sum(not verdict.success for verdict in verdicts)
        metrics |= {_passed(gate.gate): float(gate.success) for gate in result.gates}
    return metrics | _drift_metrics(result) | _agreement_metrics(result.agreement)


def _drift_metrics(result: IntervalResult) -> dict[str, float]:
    """Return `drift.GATE.COLUMN.psi` and others for compared columns."""
    metrics: dict[str, float] = {}
    for gate in result.gates:
        for expectation in gate.expectations:
            if (
                expectation.type == DRIFT
                and isinstance(expectation.observed, dict)
                and "rows_was" in expectation.observed
            ):
                column = _NO_METRIC.sub("_", expectation.column)
                for name in ("psi", "null_rate", "mean_shift"):
                    value = expectation.observed.get(name)
                    if isinstance(value, int | float):
                        metrics[f"drift.{gate.gate}.{column}.{name}"] = value
    return metrics


def _passed(gate: str) -> str:
    return f"gate.{gate}.passed"


def _gate_metrics(result: RunResult) -> dict[str, float]:
    """Return `gate.NAME.passed` of each gate: the fraction of the intervals that it checked and that passed."""
    verdicts: dict[str, list[bool]] = {}
    for interval in result.intervals:
        for gate in interval.gates:
            verdicts.setdefault(gate.gate, []).append(gate.success)
    return {_passed(gate): sum(passed) / len(passed) for gate, passed in verdicts.items()}


def run_metrics(result: RunResult) -> dict[str, float]:
    """Return the metrics of a run: sums over its intervals, and the numbers of published, skipped and failed intervals.

    Drift metrics are maxima, and gate metrics are fractions of the intervals. Agreement metrics combine all intervals.
    """
    metrics: dict[str, float] = {}
    agreements = [interval.agreement for interval in result.intervals if interval.agreement is not None]
    for interval in result.intervals:
        for name, value in interval_metrics(replace(interval, agreement=None)).items():
            is_maximum = name == "largest_batch" or name.startswith("drift.")
            metrics[name] = max(metrics.get(name, 0), value) if is_maximum else metrics.get(name, 0) + value
    metrics |= _agreement_metrics(combine_agreements(agreements))
    metrics |= _gate_metrics(result)
    if metrics.get("worker_seconds.model"):
        metrics["rows_per_model_second"] = result.counts.scored / metrics["worker_seconds.model"]
    metrics |= asdict(result.counts)
    metrics["seconds"] = result.seconds
    metrics["rows_per_second"] = result.counts.rows_in / result.seconds if result.seconds > 0 else 0.0
    if result.executors:
        metrics |= executor_metrics(result.executors)
    for state in ("published", "audited", "skipped", "failed"):
        metrics[f"intervals_{state}"] = sum(interval.state == state for interval in result.intervals)
    return metrics


def points(result: RunResult, plan: Plan) -> list[Metric]:
    """Return the totals of a run, and for MLflow's charts `interval/NAME` with one step per interval, in the plan's order.

    A run of one interval has totals only. MLflow's latest value of a metric is the one of the last step, so totals have names of
    their own.
    """
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    logged = [Metric(name, value, now, 0) for name, value in run_metrics(result).items()]
    if len(plan.intervals) > 1:
        step = {interval.id: number for number, interval in enumerate(plan.intervals, start=1)}
        logged += [
            Metric(f"interval/{name}", value, now, step[interval.interval])
            for interval in result.intervals
            if interval.state != "skipped" and interval.interval in step
            for name, value in interval_metrics(interval).items()
            if name.startswith(_CHARTED)
        ]
    return logged


def batches(metrics: list[Metric]) -> Iterator[list[Metric]]:
    """Return the metrics in lists that MLflow accepts in one call."""
    for start in range(0, len(metrics), _BATCH):
        yield metrics[start : start + _BATCH]


def executor_metrics(use: ExecutorUse) -> dict[str, float]:
    """Return the executor metrics. Scaling times are maxima."""
    metrics = {
        "executor_seconds": use.executor_seconds,
        "executors_peak": float(use.peak),
        "executors_lost": float(use.lost),
        "executor_utilisation": use.utilisation,
    }
    if use.scale_out_s:
        metrics["seconds_to_scale_out"] = max(use.scale_out_s)
    if use.scale_in_s:
        metrics["seconds_to_scale_in"] = max(use.scale_in_s)
    return metrics
