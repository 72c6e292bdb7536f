"""The mark that a finished task leaves beside its files, for a driver that goes on where another one died.

A mark is written when all files of the task are closed, so what it names is whole. It is read by whoever takes the staging path
over; a mark that was cut, or comes from another version of firesteel, says nothing.
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
"""The hidden folder of the marks, below the staging path."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished task: what it read, and what it did."""

    splits: tuple[Split, ...]
    result: TaskResult


def mark_name(task: int, attempt: int, job: str) -> str:
    """The path of a mark below the staging path; no two attempts at any task share one."""
    return f"{DONE}/{job}-{task:05d}-{attempt}.json"


def write_mark(done: Done) -> bytes:
    """Return the text of a mark."""
    value = {
        "made_by": VERSION,
        "splits": [asdict(each) for each in done.splits],
        "files": [asdict(each) for each in done.result.files],
        "rows_read": done.result.rows_read,
        "rows_in": done.result.rows_in,
        "report": asdict(done.result.report),
    }
    return json.dumps(value, ensure_ascii=False).encode()


def read_mark(text: bytes) -> Done | None:
    """The task of a mark; None when the mark is cut or another version's."""
    try:
        value = json.loads(text)
        if value["made_by"] != VERSION:
            return None
        return Done(
            tuple(Split(**each) for each in value["splits"]),
            TaskResult(
                _report(value["report"]),
                [WrittenFile(**each) for each in value["files"]],
                value["rows_read"],
                value["rows_in"],
            ),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _report(value: Mapping[str, Any]) -> TaskReport:
    dead_letters = [
        DeadLetter(_pairs(each["row"]), each["error"], each["message"], _pairs(each["types"]))
        for each in value["dead_letters"]
    ]
    choice = Choice(**value["choice"]) if value["choice"] else None
    challenger = tally_from(value["challenger"]) if value["challenger"] else None
    return TaskReport(**{**value, "dead_letters": dead_letters, "choice": choice, "challenger": challenger})


def _pairs(value: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, each) for name, each in value)


def apart(found: Iterable[Done]) -> list[Done]:
    """Of tasks that read the same bytes, the first: two attempts at one task, or tasks that were packed anew."""
    kept: list[Done] = []
    taken: dict[str, list[tuple[int, int]]] = {}
    for each in found:
        if any(
            split.start < stop and start < split.stop
            for split in each.splits
            for start, stop in taken.get(split.path, ())
        ):
            continue
        kept.append(each)
        for split in each.splits:
            taken.setdefault(split.path, []).append((split.start, split.stop))
    return kept
