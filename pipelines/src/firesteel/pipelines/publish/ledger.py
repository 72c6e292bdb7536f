"""The ledger: the append-only records of all attempts. The token names a record's file."""

from __future__ import annotations

from collections.abc import Callable

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of, tokens_in


class Ledger:
    """Reads the records of one pipeline and profile; there are none before the first run."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def latest(self, sink: str, interval: str) -> LedgerRecord | None:
        """Return the latest attempt, in any state."""
        sink_interval = SinkInterval(self._store, sink, interval)
        tokens = _tokens(sink_interval)
        return read_record(sink_interval, tokens[-1]) if tokens else None

    def published(self, sink: str, interval: str, location: str = "") -> LedgerRecord | None:
        """Return the latest published attempt, which readers see.

        Parameters
        ----------
        location
            The sink's `canonical` URI. Publishes to other locations do not count. Empty: any location.
        """
        sink_interval = SinkInterval(self._store, sink, interval)
        for token in reversed(_tokens(sink_interval)):
            record = read_record(sink_interval, token)
            if record.state == "published" and location in ("", record.location):
                return record
        return None

    def history(self, sink: str, interval: str | None = None) -> list[LedgerRecord]:
        """Return all attempts, latest first."""
        sink_intervals = [
            SinkInterval(self._store, sink, name) for name in ([interval] if interval else self.intervals(sink))
        ]
        records = [
            read_record(sink_interval, token) for sink_interval in sink_intervals for token in _tokens(sink_interval)
        ]
        return sorted(records, key=lambda record: (record.ended_at, record.interval, record.token), reverse=True)

    def intervals(self, sink: str) -> tuple[str, ...]:
        """Return the intervals with at least one record, sorted."""
        storage = self._store.storage
        folders = [child for child in children(storage, self._store.folder("ledger", sink)) if child.is_dir]
        return tuple(sorted(name_of(folder.name) for folder in folders))


def read_record(sink_interval: SinkInterval, token: int) -> LedgerRecord:
    """Return the record of a token. Raise FS8003 when there is none, FS8006 when it is not valid."""
    path = sink_interval.file("ledger", token)
    return LedgerRecord.from_json(sink_interval.storage.read(path), path)


def write_record(
    sink_interval: SinkInterval, record: LedgerRecord, create: Callable[[str, bytes], object] | None = None
) -> LedgerRecord:
    """Append a record once, and return the stored record, also if another process wrote it first.

    Parameters
    ----------
    create
        A replacement for `Storage.create`, which is the default.
    """
    path = sink_interval.file("ledger", record.token)
    try:
        (create or sink_interval.storage.create)(path, record.to_json())
    except StorageError as error:
        if error.code != "FS8004":
            raise
        stored = read_record(sink_interval, record.token)
        if stored.run_id != record.run_id:
            raise
        return stored
    return record


def _tokens(sink_interval: SinkInterval) -> list[int]:
    return tokens_in(sink_interval.storage, sink_interval.folder("ledger"), "json")
