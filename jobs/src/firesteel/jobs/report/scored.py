"""Summarise the operators, the inference backends and the worker time of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firesteel.pipelines.result import IntervalResult, RunResult

PHASES = {
    "load": "loading the model",
    "warm up": "warming up",
    "choose": "choosing a backend",
    "read": "waiting for input",
    "decode": "converting input for the model",
    "model": "model",
    "encode": "converting scores to Arrow",
    "challenger": "challenger",
    "write": "writing output",
}
"""Labels of the worker phases, in the order of processing.

`read` is the time to read and decode Parquet (direct operator), or the time of the JVM and the transfer (other operators).
`write` is the time to write Parquet, or the transfer back to the JVM.
"""

_LEFT = "batches that the chosen backend does not support"


@dataclass(frozen=True, slots=True)
class BackendUse:
    """An inference backend: its scored rows, the reason for its choice and the largest difference from pyfunc."""

    name: str
    rows: int
    reason: str
    difference: float | None


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """One operator and the intervals that it scored. `resumed_rows` counts rows that an interrupted run had scored."""

    operator: str
    reason: str
    intervals: int
    backends: tuple[BackendUse, ...]
    resumed_rows: int = 0


def scored_by(result: RunResult) -> tuple[ScoredBy, ...]:
    """Return the operators of a run with their reasons and backends."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for interval in result.intervals:
        facts = dict(interval.scoring)
        if facts:
            groups.setdefault((str(facts["operator"]), str(facts["operator_reason"])), []).append(facts)
    return tuple(
        ScoredBy(*key, len(group), _backends(group), sum(int(facts.get("resumed_rows", 0)) for facts in group))
        for key, group in groups.items()
    )


def worker_seconds(intervals: tuple[IntervalResult, ...]) -> dict[str, float]:
    """Return the worker time in seconds by phase, summed over tasks and intervals."""
    sums: dict[str, float] = {}
    for interval in intervals:
        for phase, seconds in interval.worker_seconds:
            sums[phase] = sums.get(phase, 0.0) + seconds
    return {phase: sums[phase] for phase in PHASES if sums.get(phase)}


def _backends(groups: list[Mapping[str, Any]]) -> tuple[BackendUse, ...]:
    rows: dict[str, int] = {}
    reasons: dict[str, tuple[str, float | None]] = {}
    for facts in groups:
        for backend, count in facts.get("rows_by_backend", {}).items():
            rows[backend] = rows.get(backend, 0) + int(count)
        for choice in facts.get("backends", []):
            previous = reasons.get(choice["backend"], ("", None))[1]
            difference = choice["largest_difference"] if choice["checked_rows"] else None
            largest = max((value for value in (previous, difference) if value is not None), default=None)
            reasons[choice["backend"]] = (choice["reason"], largest)
    return tuple(
        BackendUse(backend, count, *reasons.get(backend, (_LEFT, None))) for backend, count in sorted(rows.items())
    )
