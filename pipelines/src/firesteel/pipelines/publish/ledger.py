"""The ledger: the append-only records of all attempts. The token names a record's file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import TypeAdapter

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.envelope import decode, encode, invalid
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of, tokens_in


class Ledger:
    """Reads the records of one pipeline and profile; there are none before the first run."""

    def __init__(self, store: StateStore) -> None:
        self.store = store

    def latest(self, sink: str, interval: str) -> LedgerRecord | None:
        """Return the latest attempt, in any state."""
        sink_interval = SinkInterval(self.store, sink, interval)
        tokens = _tokens(sink_interval)
        return read_record(sink_interval, tokens[-1]) if tokens else None

    def published(self, sink: str, interval: str, location: str = "") -> LedgerRecord | None:
        """Return the latest published attempt, which readers see.

        Parameters
        ----------
        location
            The sink's `canonical` URI. Publishes to other locations do not count. Empty: any location.
        """
        sink_interval = SinkInterval(self.store, sink, interval)
        for token in reversed(_tokens(sink_interval)):
            record = read_record(sink_interval, token)
            if record.state == "published" and location in ("", record.location):
                return record
        return None

    def suspect(self, sink: str, interval: str, location: str) -> str:
        """Return why an audit found the rows published to a location wrong; empty if none did since the latest publish there."""
        sink_interval = SinkInterval(self.store, sink, interval)
        return why_suspect((read_record(sink_interval, token) for token in reversed(_tokens(sink_interval))), location)

    def publishes(self, sink: str, interval: str, location: str) -> list[LedgerRecord]:
        """Return all attempts of an interval that published to a location, earliest first."""
        sink_interval = SinkInterval(self.store, sink, interval)
        records = (read_record(sink_interval, token) for token in _tokens(sink_interval))
        return [record for record in records if record.state == "published" and record.location == location]

    def history(self, sink: str, interval: str | None = None) -> list[LedgerRecord]:
        """Return all attempts, latest first."""
        sink_intervals = [
            SinkInterval(self.store, sink, name) for name in ([interval] if interval else self.intervals(sink))
        ]
        records = [
            read_record(sink_interval, token) for sink_interval in sink_intervals for token in _tokens(sink_interval)
        ]
        return sorted(records, key=lambda record: (record.ended_at, record.interval, record.token), reverse=True)

    def intervals(self, sink: str) -> tuple[str, ...]:
        """Return the intervals with at least one record, sorted."""
        storage = self.store.storage
        folders = [child for child in children(storage, self.store.folder("ledger", sink)) if child.is_dir]
        return tuple(sorted(name_of(folder.name) for folder in folders))


def why_suspect(records: Iterable[LedgerRecord], location: str) -> str:
    """Return the error of the latest failed audit after the latest publish to a location; empty if there is none.

    Parameters
    ----------
    records
        The records of one interval, latest first.
    location
        The sink's `canonical` URI. Attempts at other locations say nothing about its rows.
    """
    for record in records:
        if record.location != location:
            continue
        if record.state == "published":
            break
        if record.failed_audit:
            return record.error
    return ""


def read_record(sink_interval: SinkInterval, token: int) -> LedgerRecord:
    """Return the record of a token. Raise FS8003 when there is none, FS8006 when it is not valid."""
    return decode_record(sink_interval, token, sink_interval.storage.read(sink_interval.file("ledger", token)))


def decode_record(sink_interval: SinkInterval, token: int, data: bytes) -> LedgerRecord:
    """Return the record in the content of its file. Raise FS8006 when it is not valid, or belongs to another place."""
    path = sink_interval.file("ledger", token)
    hint = (
        "Restore the file from a backup. Without one, delete it and run `firesteel recover`, which writes the record of a publish "
        "again from its journal."
    )
    record = decode(_ADAPTER, data, path, sink_interval.identity("ledger", token), hint)
    place = (sink_interval.store.profile, sink_interval.sink, sink_interval.interval, token)
    if (record.profile, record.sink, record.interval, record.token) != place or record.restores >= token:
        raise invalid(path, "the ledger record contradicts itself: its body belongs to another place or time.", hint)
    return record


def encode_record(sink_interval: SinkInterval, record: LedgerRecord) -> bytes:
    """Return the content of a record's file."""
    return encode(sink_interval.identity("ledger", record.token), record)


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
        (create or sink_interval.storage.create)(path, encode_record(sink_interval, record))
    except StorageError as error:
        if error.code != "FS8004":
            raise
        stored = read_record(sink_interval, record.token)
        if stored.run_id != record.run_id:
            raise
        return stored
    return record


def lost_records(sink_interval: SinkInterval) -> list[int]:
    """Return the tokens that have published and whose record is not in the ledger, ascending."""
    return _lost(sink_interval)[1]


def _tokens(sink_interval: SinkInterval) -> list[int]:
    tokens, lost = _lost(sink_interval)
    if lost:
        raise invalid(
            sink_interval.file("ledger", lost[0]),
            f"the ledger record of {sink_interval}, token {lost[0]}, is missing, although the token has published.",
            "Restore the file, or run `firesteel recover`, which writes the record again from the journal.",
        )
    return tokens


def _lost(sink_interval: SinkInterval) -> tuple[list[int], list[int]]:
    # The leases first: a token is marked as published after its record was written.
    published = tokens_in(sink_interval.storage, sink_interval.folder("lease"), "published")
    tokens = tokens_in(sink_interval.storage, sink_interval.folder("ledger"), "json")
    return tokens, sorted(set(published) - set(tokens))


_ADAPTER = TypeAdapter(LedgerRecord)
