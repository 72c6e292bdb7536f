"""Events of a run: what progress bars, logs and tests see. One type, sent to one callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "run_started",
    "session",
    "interval_started",
    "interval_skipped",
    "leased",
    "recovered",
    "input_gate",
    "scoring",
    "resumed",
    "tasks",
    "staged",
    "output_gate",
    "journaled",
    "partition_retired",
    "partition_published",
    "ledgered",
    "cleaned",
    "interval_done",
    "interval_failed",
    "run_done",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `facts` are JSON values.

    `tasks` comes about once a second while an interval is scored, from a thread of its own: `done` of the tasks `known`.
    """

    kind: Kind
    interval: str = ""
    facts: dict[str, object] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Do nothing with an event: the default callback."""


Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and of how much."""


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Report nothing: the default."""
