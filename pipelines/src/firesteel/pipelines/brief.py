"""The brief of a run for schedulers, in a few kilobytes: an Airflow task returns it, and the run's heartbeat stores it.

Its keys are a contract (`CONTRACT`), which a test checks. Long lists are cut; a total next to each shows the full length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from firesteel.pipelines.result import Counts, GateResult, IntervalResult, RunResult

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

CONTRACT = 1
MAX_INTERVALS = 100
MAX_PARTITIONS = 200
"""Limit for all intervals together."""
MAX_TEXT = 2000


def brief(result: RunResult, plan: Plan) -> dict[str, JsonValue]:
    """Return the brief of a run."""
    remaining = MAX_PARTITIONS
    intervals: list[JsonValue] = []
    for interval in result.intervals[:MAX_INTERVALS]:
        intervals.append(_interval(interval, remaining))
        remaining = max(0, remaining - len(interval.partitions))
    return {
        "contract": CONTRACT,
        "run_id": result.run_id,
        "pipeline": result.pipeline,
        "profile": result.profile,
        "state": result.state,
        "exit_code": result.exit_code,
        "started_at": result.started_at,
        "seconds": result.seconds,
        "rows": rows(result.counts),
        "intervals": intervals,
        "intervals_total": len(result.intervals),
        "sinks": {sink.name: sink.path for sink in plan.sinks},
        "gates": [_gate(gate) for part in result.intervals[:MAX_INTERVALS] for gate in part.gates if _failed(gate)],
        "mlflow_run_id": result.mlflow_run_id,
        "report": result.report,
        "error": result.error[:MAX_TEXT],
    }


def rows(counts: Counts) -> dict[str, JsonValue]:
    """Return the row counts as JSON."""
    return {
        "in": counts.rows_in,
        "scored": counts.scored,
        "dead_letter": counts.dead_letter,
        "quarantined": counts.quarantined,
        "dropped": counts.dropped,
    }


def _interval(result: IntervalResult, max_partitions: int) -> JsonValue:
    return {
        "interval": result.interval,
        "state": result.state,
        "reason": result.reason,
        "rows": result.counts.scored,
        "files": result.files,
        "bytes": result.bytes,
        "partitions": list(result.partitions[:max_partitions]),
        "partitions_total": len(result.partitions),
        "error": result.error[:MAX_TEXT],
    }


def _failed(gate: GateResult) -> list[JsonValue]:
    return [f"{item.severity}: {item.type} {item.column}".strip() for item in gate.expectations if not item.success]


def _gate(gate: GateResult) -> JsonValue:
    return {"gate": gate.gate, "on": gate.on, "success": gate.success, "failed": _failed(gate)[:20]}
