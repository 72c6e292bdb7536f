"""Count rows and time per task on the executors, and sum the counts on the driver, once per partition."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.accumulators import AccumulatorParam

from firesteel.udfs.agreement import Tally
from firesteel.udfs.backends.base import Choice
from firesteel.udfs.dead_letter import DeadLetter


@dataclass(slots=True)
class TaskReport:
    """The counts of one task. `attempt` is Spark's task attempt ID, which is unique and increases within an application."""

    partition: int
    attempt: int
    rows_in: int = 0
    rows_scored: int = 0
    batches: int = 0
    max_batch_rows: int = 0
    loads: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    rows_by_backend: dict[str, int] = field(default_factory=dict)
    choice: Choice | None = None
    challenger: Tally | None = None

    def count_backend(self, backend: str, rows: int) -> None:
        """Add rows to the count of a backend."""
        self.rows_by_backend[backend] = self.rows_by_backend.get(backend, 0) + rows


class Clock:
    """Measures the time of a task by phase."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._at = time.perf_counter()

    def add(self, phase: str) -> None:
        """Add the time since the last call to `phase`."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._at
        self._at = now


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """The counts of one action over a scored frame. `seconds` are summed over workers.

    `choices` are the chosen backends, one per backend and reason, with the largest difference of all workers. `challenger` is None if
    the step has no challenger.
    """

    rows_in: int
    rows_scored: int
    dead_letters: tuple[DeadLetter, ...]
    loads: int
    batches: int
    max_batch_rows: int
    seconds: tuple[tuple[str, float], ...]
    rows_by_backend: tuple[tuple[str, int], ...] = ()
    choices: tuple[Choice, ...] = ()
    challenger: Tally | None = None


class ReportsByPartition(AccumulatorParam):
    """Collects task reports by partition. The last attempt of a partition counts.

    Spark also returns the accumulators of a stage that it computes again, so a sum would count its rows twice.
    """

    def zero(self, value: dict[int, TaskReport]) -> dict[int, TaskReport]:  # noqa: ARG002 - Spark's signature
        """Return no reports."""
        return {}

    def addInPlace(self, value1: dict[int, TaskReport], value2: dict[int, TaskReport]) -> dict[int, TaskReport]:  # noqa: N802
        """Merge two sets of reports."""
        for partition, report in value2.items():
            previous = value1.get(partition)
            if previous is None or report.attempt >= previous.attempt:
                value1[partition] = report
        return value1


def summarise(tasks: dict[int, TaskReport]) -> ScoreReport:
    """Return the counts of all tasks, with dead letters in partition order."""
    ordered = [tasks[partition] for partition in sorted(tasks)]
    seconds: dict[str, float] = {}
    for task in ordered:
        for phase, value in task.seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + value

    def total(name: str) -> int:
        return sum(getattr(task, name) for task in ordered)

    backends: dict[str, int] = {}
    choices: dict[tuple[str, str], Choice] = {}
    for task in ordered:
        for backend, rows in task.rows_by_backend.items():
            backends[backend] = backends.get(backend, 0) + rows
        if task.choice is not None:
            key = (task.choice.backend, task.choice.reason)
            previous = choices.get(key, task.choice)
            largest = max(previous.largest_difference, task.choice.largest_difference)
            choices[key] = replace(previous, largest_difference=largest)
    challenger: Tally | None = None
    for task in ordered:
        if task.challenger is not None:
            challenger = challenger or Tally()
            challenger.merge(task.challenger)
    dead_letters: list[Any] = [letter for task in ordered for letter in task.dead_letters]
    return ScoreReport(
        rows_in=total("rows_in"), rows_scored=total("rows_scored"), dead_letters=tuple(dead_letters), loads=total("loads"), batches=total("batches"),
        max_batch_rows=max((task.max_batch_rows for task in ordered), default=0), seconds=tuple(sorted(seconds.items())),
        rows_by_backend=tuple(sorted(backends.items())), choices=tuple(choices[key] for key in sorted(choices)),
        challenger=challenger,
    )  # fmt: skip
