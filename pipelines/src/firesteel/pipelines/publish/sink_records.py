"""The ledger records of many intervals: one listing, one index file, and a parallel read of the records that the index lacks.

::

    <base>/index/<profile>/<sink>.pack    32 bytes SHA-256 of the rest | zlib: u32 length of head | head | record files, in order
                                          head: JSON list of [interval, token, length, modified_ms]

The index copies the bytes of record files and nothing else. An entry counts only for a file that the listing shows with the same
length and modification time. So an index that is lost, damaged or stale costs time and changes no result: readers write it again.
Decisions about one interval (lease, recovery, publish, rollback) read the record files, and `audit verify` compares the index with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from firesteel.conf.errors import FiresteelError, StorageError
from firesteel.pipelines.publish.ledger import decode_record, why_suspect
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, file_name, name_of, token_of
from firesteel.pipelines.storage.base import FileStatus

INDEX_FROM = 256
"""Number of records from which on an index is quicker than their files."""

_WRITE_FROM = 64
"""Number of records that the index lacks from which on it is written again."""

_SPARE_BYTES = 64 << 20
"""Bytes that an index may have for records that were deleted. A larger index counts as lost."""

READERS = 16
"""Number of threads that read record files."""

_HEAD = struct.Struct(">I")
_SHA_BYTES = 32

K = TypeVar("K")
T = TypeVar("T")
Key = tuple[str, int]
"""The interval and the token of a record."""


class SinkRecords:
    """The records of one sink at the time of the listing.

    Parameters
    ----------
    intervals
        The intervals to read. Default: all.
    """

    def __init__(self, store: StateStore, sink: str, intervals: Sequence[str] | None = None) -> None:
        self._store, self._sink = store, sink
        self.index_path = f"{store.folder('index', sink)}.pack"
        self._data: dict[Key, bytes] = {}
        self._records: dict[Key, LedgerRecord] = {}
        self._index_read = False
        self._files = files_of(store, sink, "ledger", intervals)
        self._tokens: dict[str, list[int]] = {}
        for interval, token in self._files:
            self._tokens.setdefault(interval, []).append(token)
        for tokens in self._tokens.values():
            tokens.sort(reverse=True)

    def latest_tokens(self) -> dict[str, int]:
        """Return the token of the latest attempt of each interval. Reads no record."""
        return {interval: tokens[0] for interval, tokens in self._tokens.items()}

    def latest(self) -> dict[str, LedgerRecord]:
        """Return the latest attempt of each interval, in any state, sorted by interval."""
        keys = [(interval, self._tokens[interval][0]) for interval in sorted(self._tokens)]
        self._load(keys)
        return {interval: self._records[interval, token] for interval, token in keys}

    def published(self, location: str = "") -> dict[str, LedgerRecord]:
        """Return the latest published attempt of each interval that has one, sorted by interval.

        Parameters
        ----------
        location
            The sink's `canonical` URI. Publishes to other locations do not count. Empty: any location.
        """
        found: dict[str, LedgerRecord] = {}
        left = sorted(self._tokens)
        for depth in range(max(map(len, self._tokens.values()), default=0)):
            left = [interval for interval in left if interval not in found and len(self._tokens[interval]) > depth]
            keys = [(interval, self._tokens[interval][depth]) for interval in left]
            self._load(keys)
            records = {interval: self._records[interval, token] for interval, token in keys}
            found |= {
                interval: record
                for interval, record in records.items()
                if record.state == "published" and location in ("", record.location)
            }
        return dict(sorted(found.items()))

    def suspect(self, location: str) -> dict[str, str]:
        """Return why an audit found the rows published to a location wrong; intervals without such an audit are not included."""
        self.published(location)  # reads the records down to those publishes
        return {
            interval: reason
            for interval, tokens in self._tokens.items()
            if (reason := why_suspect((self._records[interval, token] for token in tokens), location))
        }

    def all(self) -> list[LedgerRecord]:
        """Return all attempts, latest first."""
        self._load(list(self._files))
        return sorted(
            (self._records[key] for key in self._files),
            key=lambda record: (record.ended_at, record.interval, record.token),
            reverse=True,
        )

    def _load(self, keys: Sequence[Key]) -> None:
        wanted = [key for key in keys if key not in self._records]
        if len(wanted) >= INDEX_FROM:
            self._read_index()
        missing = [key for key in wanted if key not in self._data]
        for key, data in zip(missing, read_all(self._read, missing), strict=True):
            self._data[key] = data
        read = frozenset(missing)
        for key in wanted:
            place = SinkInterval(self._store, self._sink, key[0])
            try:
                self._records[key] = decode_record(place, key[1], self._data[key])
            except StorageError:
                if key in read:
                    raise
                self._data[key] = self._read(key)  # the index has other bytes than the file
                self._records[key] = decode_record(place, key[1], self._data[key])
        if len(self._data) >= INDEX_FROM and len(missing) >= max(_WRITE_FROM, len(self._data) // 16):
            self._write_index()

    def _read(self, key: Key) -> bytes:
        status = self._files[key]
        return self._store.storage.peek(status.path, 0, status.length)

    def _read_index(self) -> None:
        if self._index_read:
            return
        self._index_read = True
        limit = _SPARE_BYTES + 4 * sum(status.length for status in self._files.values())
        try:
            packed = self._store.storage.read(self.index_path, 0, limit)
        except StorageError:
            return  # lost
        if hashlib.sha256(packed[_SHA_BYTES:]).digest() != packed[:_SHA_BYTES]:
            return  # damaged, or half-written
        # Others may be able to write here, too: the content may be anything, of any size.
        with contextlib.suppress(zlib.error, struct.error, ValueError, TypeError, RecursionError):
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(packed[_SHA_BYTES:], limit)
            at = _HEAD.size + _HEAD.unpack_from(data)[0]
            for interval, token, length, modified_ms in json.loads(data[_HEAD.size : at]) if unpacker.eof else ():
                status = self._files.get((interval, token))
                if status is not None and (status.length, status.modified_ms) == (length, modified_ms):
                    self._data.setdefault((interval, token), data[at : at + length])
                at += length

    def _write_index(self) -> None:
        keys = sorted(key for key, data in self._data.items() if len(data) == self._files[key].length)
        head = json.dumps([[*key, self._files[key].length, self._files[key].modified_ms] for key in keys]).encode()
        body = zlib.compress(b"".join([_HEAD.pack(len(head)), head, *(self._data[key] for key in keys)]), 1)
        with contextlib.suppress(FiresteelError):  # readers need not have write access
            self._store.storage.replace(self.index_path, hashlib.sha256(body).digest() + body)


def files_of(
    store: StateStore, sink: str, kind: str, intervals: Collection[str] | None = None
) -> dict[Key, FileStatus]:
    """Return the files of one kind, such as `ledger` or `journal`, that attempts have written, from one listing.

    Parameters
    ----------
    intervals
        The intervals to list. Default: all.
    """
    folder = store.folder(kind, sink)
    folders = [folder]
    if intervals is not None and len(intervals) < INDEX_FROM:
        folders = [SinkInterval(store, sink, interval).folder(kind) for interval in dict.fromkeys(intervals)]
    names = None if intervals is None else {file_name(interval) for interval in intervals}
    files = {}
    for status in store.storage.scan(folders):
        name, _, file = status.path[len(folder) + 1 :].partition("/")
        token = token_of(file)
        if token is not None and token[1] == "json" and (names is None or name in names):
            files[name_of(name), token[0]] = status
    return files


def read_all(read: Callable[[K], T], keys: Sequence[K]) -> Iterable[T]:
    """Return the result of `read` for each key, in order, by several threads if there are many keys."""
    if len(keys) <= READERS:
        return map(read, keys)
    size = -(-len(keys) // (4 * READERS))
    parts = [keys[start : start + size] for start in range(0, len(keys), size)]
    with ThreadPoolExecutor(READERS, thread_name_prefix="firesteel-ledger") as pool:
        return [result for results in pool.map(lambda part: list(map(read, part)), parts) for result in results]
