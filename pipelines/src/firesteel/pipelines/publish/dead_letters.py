"""Read and delete the dead letters of an interval. Open dead letters are rows that the published data lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firesteel.conf.errors import StorageError, Where
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import StateStore, children, own_children
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.paths import join

FOLDER = "dead_letter"
_KEYS = {"row", "error", "message", "model_version"}


@dataclass(frozen=True, slots=True)
class DeadLetterErrors:
    """The number of rows that failed with one class of error, and the first message."""

    error: str
    rows: int
    message: str


@dataclass(frozen=True, slots=True)
class DeadLetterFile:
    """The dead letters of one run and interval. `open` means that the published data lacks these rows."""

    step: str
    interval: str
    run_id: str
    path: str
    rows: int
    errors: tuple[DeadLetterErrors, ...]
    model_version: str
    open: bool


def dead_letters(store: StateStore, sinks: Mapping[str, str], interval: str = "") -> list[DeadLetterFile]:
    """Return all dead letters, by step, interval and run.

    Parameters
    ----------
    sinks
        URIs by sink name. Publishes to other locations open and close no dead letters.
    """
    storage, base = store.storage, join(store.base, FOLDER)
    ledger, open_by_interval = Ledger(store), dict[str, frozenset[str]]()
    files = []
    for step in children(storage, base):
        for folder in children(storage, step.path):
            if interval and folder.name != interval:
                continue
            if folder.name not in open_by_interval:
                runs = (open_runs(ledger, sink, folder.name, canonical(uri)) for sink, uri in sinks.items())
                open_by_interval[folder.name] = frozenset[str]().union(*runs)
            for file in children(storage, folder.path):
                run_id = file.name.removesuffix(".jsonl")
                rows = read_rows(store, file.path)
                files.append(
                    DeadLetterFile(
                        step.name,
                        folder.name,
                        run_id,
                        file.path,
                        len(rows),
                        _errors(rows),
                        rows[0]["model_version"] if rows else "",
                        run_id in open_by_interval[folder.name],
                    )
                )
    return files


def read_rows(store: StateStore, path: str) -> list[dict[str, Any]]:
    """Return the dead letters of a file: `row`, `error`, `message` and `model_version` of each.

    Raises
    ------
    StorageError
        FS8006 with the number of the first line that is not valid.
    """
    rows = []
    for number, line in enumerate(store.storage.read(path).splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not row.keys() >= _KEYS:
            hint = "Restore the file, or move it."
            raise StorageError("FS8006", "the line is not a valid dead letter.", where=Where(path, number), hint=hint)
        rows.append(row)
    return rows


def _errors(rows: list[dict[str, Any]]) -> tuple[DeadLetterErrors, ...]:
    """Return the classes of errors, the most frequent first."""
    first: dict[str, str] = {}
    count: dict[str, int] = {}
    for row in rows:
        name = str(row["error"])
        first.setdefault(name, str(row["message"]))
        count[name] = count.get(name, 0) + 1
    return tuple(
        DeadLetterErrors(name, count[name], first[name]) for name in sorted(count, key=lambda name: -count[name])
    )


def prune_dead_letters(store: StateStore, keep_s: float, *, now_s: float) -> int:
    """Delete dead letters older than `keep_s`, also open ones, and return the number of files. Folders stay for concurrent runs."""
    deleted = 0
    for step in own_children(store, join(store.base, FOLDER)):
        for folder in own_children(store, step.path):
            for file in own_children(store, folder.path):
                if file.modified_ms < (now_s - keep_s) * 1000:
                    deleted += store.storage.delete(file.path)
    return deleted


def open_runs(ledger: Ledger, sink: str, interval: str, location: str) -> frozenset[str]:
    """Return the runs whose dead letters the data published to a location lacks.

    After a run, its own are open. An append adds its own to the open ones. A replay removes those that it replayed and adds its own.
    An audit changes none.
    A rollback restores the open ones of the restored version.
    """
    published = {record.token: record for record in ledger.publishes(sink, interval, location)}
    return _open(published, max(published, default=0))


def _open(published: dict[int, LedgerRecord], token: int) -> frozenset[str]:
    record = published.get(token)
    if record is None:
        return frozenset()
    if record.action == "rollback":
        return _open(published, record.restores)
    if record.action in {"append", "replay", "audit"}:
        before = max((older for older in published if older < token), default=0)
        own = frozenset[str]() if record.action == "audit" else frozenset({record.run_id})
        return _open(published, before) - frozenset(record.replayed) | own
    return frozenset({record.run_id})
