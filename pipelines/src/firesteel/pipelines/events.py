"""The events of a run, sent to one callback, for progress bars, logs and tests."""

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
    """An event. `facts` are JSON values.

    While an interval is scored, a separate thread emits a `tasks` event about once per second: `done` of the `known` tasks.
    """

    kind: Kind
    interval: str = ""
    facts: dict[str, object] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Ignore an event: the default callback."""


Progress = Callable[[str, int, int], None]
"""Callback with the current activity, the completed count and the total count."""


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Report no progress: the default callback."""
