"""How a run was scored: operators and backends of the model with their reasons, and where its workers' time went."""

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
    "decode": "input to the model's backend",
    "model": "in the model",
    "encode": "scores to Arrow",
    "challenger": "in the challenger",
    "write": "handing on",
}
"""What the workers' clock knows, in the order in which a row meets it. `read` of the direct operator is reading and decoding
Parquet, of the others the JVM's work and the transfer; `write` is writing Parquet, or the transfer back."""

_LEFT = "batches that the chosen backend could not take"


@dataclass(frozen=True, slots=True)
class BackendUse:
    """A backend of the model: rows that it scored, why it was taken, and the largest difference from the pyfunc."""

    name: str
    rows: int
    reason: str
    difference: float | None


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """One operator with the intervals that it scored. `resumed_rows` of them had been scored by runs that died."""

    operator: str
    reason: str
    intervals: int
    backends: tuple[BackendUse, ...]
    resumed_rows: int = 0


def scored_by(result: RunResult) -> tuple[ScoredBy, ...]:
    """The operators of a run, each with its reason once, and what they scored with."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for interval in result.intervals:
        facts = dict(interval.scoring)
        if facts:
            groups.setdefault((str(facts["operator"]), str(facts["operator_reason"])), []).append(facts)
    return tuple(
        ScoredBy(*key, len(each), _forms(each), sum(int(facts.get("resumed_rows", 0)) for facts in each))
        for key, each in groups.items()
    )


def worker_seconds(intervals: tuple[IntervalResult, ...]) -> dict[str, float]:
    """Seconds of the workers by phase, summed over tasks and intervals."""
    sums: dict[str, float] = {}
    for interval in intervals:
        for phase, seconds in interval.worker_seconds:
            sums[phase] = sums.get(phase, 0.0) + seconds
    return {phase: sums[phase] for phase in PHASES if sums.get(phase)}


def _forms(groups: list[Mapping[str, Any]]) -> tuple[BackendUse, ...]:
    rows: dict[str, int] = {}
    reasons: dict[str, tuple[str, float | None]] = {}
    for facts in groups:
        for backend, count in facts.get("rows_by_backend", {}).items():
            rows[backend] = rows.get(backend, 0) + int(count)
        for choice in facts.get("backends", []):
            known = reasons.get(choice["backend"], ("", None))[1]
            found = choice["largest_difference"] if choice["checked_rows"] else None
            largest = max((each for each in (known, found) if each is not None), default=None)
            reasons[choice["backend"]] = (choice["reason"], largest)
    return tuple(
        BackendUse(backend, count, *reasons.get(backend, (_LEFT, None))) for backend, count in sorted(rows.items())
    )
