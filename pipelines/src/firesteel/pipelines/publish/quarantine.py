"""The quarantined rows: below the spec's `storage`, one data set for each relation, by interval and run.

::

    <base>/quarantine/<relation>/interval=2013-06-01/run_id=20130602T0310-ab12/part-....parquet

Readers of a lake read it as they read everything else: partitioned, with the reasons in a column.
"""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import StateStore, children
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.paths import join

FOLDER = "quarantine"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The rows of a relation that one run quarantined in one interval. `standing`: the published version excludes them."""

    relation: str
    interval: str
    run_id: str
    path: str
    files: tuple[FileStatus, ...]
    standing: bool


def quarantine_path(store: StateStore, relation: str, interval: str, run_id: str) -> str:
    """The folder of one run's rows, within the storage."""
    return join(store.base, FOLDER, relation, f"interval={interval}", f"run_id={run_id}")


def quarantined(store: StateStore, sinks: tuple[str, ...], interval: str = "") -> list[Quarantined]:
    """What lies in quarantine, by relation, interval and run."""
    ledger, standing = Ledger(store), dict[str, frozenset[str]]()
    found = []
    for relation in children(store.storage, join(store.base, FOLDER)):
        for folder in children(store.storage, relation.path):
            name = folder.name.partition("=")[2]
            if interval and name != interval:
                continue
            if name not in standing:
                standing[name] = frozenset[str]().union(*(standing_runs(ledger, sink, name) for sink in sinks))
            for put in children(store.storage, folder.path):
                run_id = put.name.partition("=")[2]
                files = tuple(file for file in store.storage.walk(put.path) if not file.name.startswith((".", "_")))
                found.append(Quarantined(relation.name, name, run_id, put.path, files, run_id in standing[name]))
    return found


def prune_quarantine(store: StateStore, keep_s: float, *, now_s: float) -> int:
    """Delete the rows that were quarantined more than `keep_s` ago; return the number of deleted folders."""
    oldest_ms, deleted = (now_s - keep_s) * 1000, 0
    for relation in children(store.storage, join(store.base, FOLDER)):
        for folder in children(store.storage, relation.path):
            for run in children(store.storage, folder.path):
                if run.modified_ms < oldest_ms:
                    deleted += store.storage.delete(run.path)
    return deleted


def standing_runs(ledger: Ledger, sink: str, interval: str) -> frozenset[str]:
    """The runs that chose the rows of what is published now: neither a replay nor a rollback chooses any."""
    published = {each.token: each for each in ledger.history(sink, interval) if each.state == "published"}
    return _chosen_by(published, max(published, default=0))


def _chosen_by(published: dict[int, LedgerRecord], token: int) -> frozenset[str]:
    record = published.get(token)
    if record is None:
        return frozenset()
    if record.action == "rollback":
        return _chosen_by(published, record.restores)
    own = frozenset() if record.action == "replay" else frozenset({record.run_id})
    if record.action == "run":
        return own
    return own | _chosen_by(published, max((each for each in published if each < token), default=0))
