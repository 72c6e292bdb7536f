"""The rows that were quarantined: one data set per relation below the spec's `storage`, partitioned by interval and run.

::

    <base>/quarantine/<relation>/interval=2013-06-01/run_id=20130602T0310-ab12/part-....parquet

A column of each row holds the reasons. Rows that cannot be parsed are in the relation `SOURCE.unparsed`, with their raw text.
Any Parquet reader can load these data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import StateStore, children, own_children
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.paths import join

FOLDER = "quarantine"


def unparsed_relation(source: str) -> str:
    """Return the relation of the rows of a source that cannot be parsed."""
    return f"{source}.unparsed"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The rows of a relation that one run quarantined in one interval.

    `state` is `active` if the current version of the interval excludes these rows. It is `superseded` if the run failed
    or a later run replaced its version.
    """

    relation: str
    interval: str
    run_id: str
    path: str
    files: tuple[FileStatus, ...]
    state: Literal["active", "superseded"]


def quarantine_path(store: StateStore, relation: str, interval: str, run_id: str) -> str:
    """Return the folder of one run's quarantined rows, within the storage."""
    return join(store.base, FOLDER, relation, f"interval={interval}", f"run_id={run_id}")


def quarantined(store: StateStore, sinks: Mapping[str, str], interval: str = "") -> list[Quarantined]:
    """Return the quarantined rows by relation, interval and run; all intervals if `interval` is empty.

    Parameters
    ----------
    sinks
        URIs by sink name. Publishes to other locations select no rows.
    """
    ledger, active = Ledger(store), dict[str, frozenset[str]]()
    records = []
    for relation in children(store.storage, join(store.base, FOLDER)):
        for folder in children(store.storage, relation.path):
            name = folder.name.partition("=")[2]
            if interval and name != interval:
                continue
            if name not in active:
                active[name] = frozenset[str]().union(
                    *(_active_runs(ledger, sink, name, canonical(uri)) for sink, uri in sinks.items())
                )
            for run in children(store.storage, folder.path):
                run_id = run.name.partition("=")[2]
                files = tuple(file for file in store.storage.walk(run.path) if not file.name.startswith((".", "_")))
                state: Literal["active", "superseded"] = "active" if run_id in active[name] else "superseded"
                records.append(Quarantined(relation.name, name, run_id, run.path, files, state))
    return records


def prune_quarantine(store: StateStore, keep_s: float, *, now_s: float) -> int:
    """Delete the rows of runs older than `keep_s` seconds, and return the number of deleted run folders."""
    oldest_ms, deleted = (now_s - keep_s) * 1000, 0
    for relation in own_children(store, join(store.base, FOLDER)):
        for folder in own_children(store, relation.path):
            for run in own_children(store, folder.path):
                if run.modified_ms < oldest_ms:
                    deleted += store.storage.delete(run.path)
    return deleted


def _active_runs(ledger: Ledger, sink: str, interval: str, location: str) -> frozenset[str]:
    """Return the runs that selected the rows of the current version at a location. A replay or a rollback selects no rows itself."""
    published = {record.token: record for record in ledger.publishes(sink, interval, location)}
    return _selected_by(published, max(published, default=0))


def _selected_by(published: dict[int, LedgerRecord], token: int) -> frozenset[str]:
    record = published.get(token)
    if record is None:
        return frozenset()
    if record.action == "rollback":
        return _selected_by(published, record.restores)
    own = frozenset() if record.action in {"replay", "audit"} else frozenset({record.run_id})
    if record.action == "run":
        return own
    return own | _selected_by(published, max((earlier for earlier in published if earlier < token), default=0))
