"""Write and read completion marks of tasks, so that a driver can resume an interrupted run.

A task writes its mark after it has closed all its files. The driver that resumes the run ignores marks that are truncated or come from
another version of firesteel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from firesteel.conf.version import VERSION
from firesteel.udfs.agreement import tally_from
from firesteel.udfs.backends.base import Choice
from firesteel.udfs.dead_letter import DeadLetter
from firesteel.udfs.direct.spec import Split, TaskResult, WrittenFile
from firesteel.udfs.report import TaskReport

DONE = "_done"
"""Hidden folder of the marks below the staging path."""


@dataclass(frozen=True, slots=True)
class CompletedTask:
    """A completed task: its input splits and its result."""

    splits: tuple[Split, ...]
    result: TaskResult


def mark_name(task: int, attempt: int, job: str) -> str:
    """Return the path of a mark below the staging path. It is unique per task attempt."""
    return f"{DONE}/{job}-{task:05d}-{attempt}.json"


def write_mark(completed: CompletedTask) -> bytes:
    """Return the content of a mark."""
    value = {
        "made_by": VERSION,
        "splits": [asdict(split) for split in completed.splits],
        "files": [asdict(file) for file in completed.result.files],
        "rows_read": completed.result.rows_read,
        "rows_in": completed.result.rows_in,
        "report": asdict(completed.result.report),
    }
    return json.dumps(value, ensure_ascii=False).encode()


def read_mark(text: bytes) -> CompletedTask | None:
    """Return the task of a mark, or None if the mark is truncated or from another version."""
    try:
        value = json.loads(text)
        if value["made_by"] != VERSION:
            return None
        return CompletedTask(
            tuple(Split(**split) for split in value["splits"]),
            TaskResult(
                _report(value["report"]),
                [WrittenFile(**file) for file in value["files"]],
                value["rows_read"],
                value["rows_in"],
            ),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _report(value: Mapping[str, Any]) -> TaskReport:
    dead_letters = [
        DeadLetter(_pairs(letter["row"]), letter["error"], letter["message"], _pairs(letter["types"]))
        for letter in value["dead_letters"]
    ]
    choice = Choice(**value["choice"]) if value["choice"] else None
    challenger = tally_from(value["challenger"]) if value["challenger"] else None
    return TaskReport(**{**value, "dead_letters": dead_letters, "choice": choice, "challenger": challenger})


def _pairs(value: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, item) for name, item in value)


def drop_overlapping(tasks: Iterable[CompletedTask]) -> list[CompletedTask]:
    """Keep the first of several tasks that read the same bytes, such as two attempts of one task."""
    unique: list[CompletedTask] = []
    ranges: dict[str, list[tuple[int, int]]] = {}
    for task in tasks:
        if any(
            split.start < stop and start < split.stop
            for split in task.splits
            for start, stop in ranges.get(split.path, ())
        ):
            continue
        unique.append(task)
        for split in task.splits:
            ranges.setdefault(split.path, []).append((split.start, split.stop))
    return unique
