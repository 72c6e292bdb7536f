"""A run in a few kilobytes, for schedulers: what an Airflow task returns, and what `firesteel status --run` shows of a run.

Its keys are a contract (`CONTRACT`), held by a test. Lists are cut to a bounded length and say so by a total beside them.
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
"""Of all intervals together."""
MAX_TEXT = 2000


def brief(result: RunResult, plan: Plan) -> dict[str, JsonValue]:
    """The run in brief."""
    room = MAX_PARTITIONS
    intervals: list[JsonValue] = []
    for each in result.intervals[:MAX_INTERVALS]:
        intervals.append(_interval(each, room))
        room = max(0, room - len(each.partitions))
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
        "gates": [_gate(gate) for each in result.intervals[:MAX_INTERVALS] for gate in each.gates if _failed(gate)],
        "mlflow_run_id": result.mlflow_run_id,
        "report": result.report,
        "error": result.error[:MAX_TEXT],
    }


def rows(counts: Counts) -> dict[str, JsonValue]:
    """Where the rows went."""
    return {
        "in": counts.rows_in,
        "scored": counts.scored,
        "dead_letter": counts.dead_letter,
        "quarantined": counts.quarantined,
        "dropped": counts.dropped,
    }


def _interval(each: IntervalResult, room: int) -> JsonValue:
    return {
        "interval": each.interval,
        "state": each.state,
        "reason": each.reason,
        "rows": each.counts.scored,
        "files": each.files,
        "bytes": each.bytes,
        "partitions": list(each.partitions[:room]),
        "partitions_total": len(each.partitions),
        "error": each.error[:MAX_TEXT],
    }


def _failed(gate: GateResult) -> list[JsonValue]:
    return [f"{each.severity}: {each.type} {each.column}".strip() for each in gate.expectations if not each.success]


def _gate(gate: GateResult) -> JsonValue:
    return {"gate": gate.gate, "on": gate.on, "success": gate.success, "failed": _failed(gate)[:20]}
