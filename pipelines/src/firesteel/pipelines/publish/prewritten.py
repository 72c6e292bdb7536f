"""Write records in advance under hidden names, and rename them to their paths when they are due.

The HDFS client sleeps 0.4 s when it closes a file before the DataNode has reported the block to the NameNode. A publish writes the
journal, the audit entry and the ledger record in sequence, so it could sleep three times. The content of all three is known before
the first write. The later two are therefore written in parallel, and a rename needs no DataNode. Their names contain the token, so that
`remove_debris` deletes the hidden files of a killed process as soon as its token is decided.
"""

from __future__ import annotations

import re
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.paths import join, parent_of

_DRAFT = re.compile(r"\.+draft-(\d{10,})-.*")  # a storage writes a file under a hidden name of its own first


def prewritten_by(name: str) -> int | None:
    """Return the token of a pre-written record by its file name; None for other files."""
    match = _DRAFT.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class _Record:
    path: str
    data: bytes
    written: Future[FileStatus]


class PrewrittenRecords:
    """The pre-written records of one attempt. Leaving the block deletes the unused ones."""

    def __init__(self, sink_interval: SinkInterval, token: int) -> None:
        self._token = token
        self._storage = sink_interval.storage
        self._folder = sink_interval.folder("lease")
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="firesteel-draft")
        self._records: dict[str, _Record] = {}

    def begin(self, path: str, data: bytes) -> None:
        """Start writing the future content of `path` to a hidden file."""
        hidden = join(self._folder, f".draft-{self._token:010d}-{secrets.token_hex(8)}")
        self._records[path] = _Record(hidden, data, self._pool.submit(self._storage.create, hidden, data))

    def create(self, path: str, data: bytes) -> None:
        """Create `path` like `Storage.create`: rename its pre-written file if it contains `data`, else write the file."""
        record = self._records.get(path)
        if record is None or record.data != data or record.written.exception() is not None:
            self._storage.create(path, data)
            return
        try:
            self._storage.rename(record.path, path)
        except StorageError as error:
            if error.code != "FS8003":
                raise
            self._storage.mkdirs(parent_of(path))
            try:
                self._storage.rename(record.path, path)
            except StorageError as again:
                if again.code != "FS8003":
                    raise
                self._storage.create(path, data)  # a successor has decided this token and deleted the hidden file
        del self._records[path]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        for record in self._records.values():
            if record.written.exception() is None:
                self._storage.delete(record.path)
