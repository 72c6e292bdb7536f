"""What an attempt at an interval has found so far."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from firesteel.jobs.gates.drift import Drifts
from firesteel.pipelines.result import Agreement, Counts, GateResult


@dataclass(slots=True)
class Findings:
    """It outlives a failure, so that the failure is reported with numbers.

    Attributes
    ----------
    aside
        The rows that gates took out before the score; they are rows in, too.
    resumed_rows
        Rows of tasks that a dead attempt at the same plan had finished.
    task_seconds
        Time of the tasks that read, score and stage, summed over slots.
    counts
        What became of all rows; all zero until the score has run.
    drifts
        What drift gates compare with, and what they have measured.
    """

    resumed_rows: int = 0
    task_seconds: float = 0.0
    aside: Counts = field(default_factory=Counts)
    counts: Counts = field(default_factory=Counts)
    gates: list[GateResult] = field(default_factory=list)
    drifts: Drifts = field(default_factory=Drifts)
    seconds: dict[str, float] = field(default_factory=dict)
    worker_seconds: dict[str, float] = field(default_factory=dict)
    distributions: tuple[tuple[str, JsonValue], ...] = ()
    scoring: tuple[tuple[str, JsonValue], ...] = ()
    agreement: Agreement | None = None

    @property
    def reached_score(self) -> int:
        """Rows of the score step's input."""
        return self.counts.rows_in - self.aside.rows_in

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - started, 3)
