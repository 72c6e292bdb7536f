"""The metrics of an interval while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from firesteel.jobs.gates.drift import DriftChecks
from firesteel.pipelines.result import Agreement, Counts, GateResult


@dataclass(slots=True)
class IntervalMetrics:
    """What the stages of an interval have measured so far. A failed interval is reported with them.

    Attributes
    ----------
    excluded
        The rows that gates excluded before the score. They count as rows in, too.
    resumed_rows
        Rows of the tasks that a dead attempt at the same plan had finished.
    task_seconds
        Time of the tasks that read, score and stage, summed over slots.
    counts
        All rows by their result; zero until the score has run.
    drifts
        The baselines of the drift gates, and the profiles that they measured.
    seconds
        Time of the driver by activity, in seconds.
    worker_seconds
        Time of the Python workers by phase, in seconds, summed over tasks.
    """

    resumed_rows: int = 0
    task_seconds: float = 0.0
    excluded: Counts = field(default_factory=Counts)
    counts: Counts = field(default_factory=Counts)
    gates: list[GateResult] = field(default_factory=list)
    drifts: DriftChecks = field(default_factory=DriftChecks)
    seconds: dict[str, float] = field(default_factory=dict)
    worker_seconds: dict[str, float] = field(default_factory=dict)
    distributions: tuple[tuple[str, JsonValue], ...] = ()
    scoring: tuple[tuple[str, JsonValue], ...] = ()
    agreement: Agreement | None = None

    @property
    def score_rows_in(self) -> int:
        """Rows of the score step's input."""
        return self.counts.rows_in - self.excluded.rows_in

    @contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Add the time of the block to `seconds[activity]`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] = round(self.seconds.get(activity, 0.0) + time.perf_counter() - started, 3)
