"""The ledger: what became of every attempt. Append-only; a record's file is named by its token."""

from __future__ import annotations

from collections.abc import Callable

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of, tokens_in


class Ledger:
    """Reads the records of one pipeline and profile. Nothing was run yet: nothing is found, and that is no error."""

    def __init__(self, store: StateStore) -> None:
        self._area = store

    def latest(self, sink: str, interval: str) -> LedgerRecord | None:
        """The newest attempt, whatever became of it."""
        place = SinkInterval(self._area, sink, interval)
        tokens = _tokens(place)
        return read_record(place, tokens[-1]) if tokens else None

    def published(self, sink: str, interval: str) -> LedgerRecord | None:
        """The newest attempt that was published: what readers see."""
        place = SinkInterval(self._area, sink, interval)
        for token in reversed(_tokens(place)):
            record = read_record(place, token)
            if record.state == "published":
                return record
        return None

    def history(self, sink: str, interval: str | None = None) -> list[LedgerRecord]:
        """All attempts, newest first."""
        places = [SinkInterval(self._area, sink, each) for each in ([interval] if interval else self.intervals(sink))]
        records = [read_record(place, token) for place in places for token in _tokens(place)]
        return sorted(records, key=lambda each: (each.ended_at, each.interval, each.token), reverse=True)

    def intervals(self, sink: str) -> tuple[str, ...]:
        """Intervals with at least one record, sorted."""
        storage = self._area.storage
        found = [child for child in children(storage, self._area.folder("ledger", sink)) if child.is_dir]
        return tuple(sorted(name_of(child.name) for child in found))


def read_record(place: SinkInterval, token: int) -> LedgerRecord:
    """The record of a token; FS8003 when there is none, FS8006 when it cannot be read."""
    path = place.file("ledger", token)
    return LedgerRecord.from_json(place.storage.read(path), path)


def write_record(
    place: SinkInterval, record: LedgerRecord, create: Callable[[str, bytes], object] | None = None
) -> LedgerRecord:
    """Append a record, once: the record that stands is returned, also when another one wrote it first.

    Parameters
    ----------
    create
        What does as `Storage.create`; that itself by default.
    """
    path = place.file("ledger", record.token)
    try:
        (create or place.storage.create)(path, record.to_json())
    except StorageError as error:
        if error.code != "FS8004":
            raise
        standing = read_record(place, record.token)
        if standing.run_id != record.run_id:
            raise
        return standing
    return record


def _tokens(place: SinkInterval) -> list[int]:
    return tokens_in(place.storage, place.folder("ledger"), "json")
