"""Files that are written ahead of their moment, and put in place by a rename when it comes.

HDFS's client naps 0.4 s when it closes a file before the DataNode has told the NameNode of the block. The journal, the audit entry
and the ledger's record follow one another, so a publish could nap three times. Their bytes are known before the first of them:
the later ones are written beside it, under hidden names, and a rename needs no DataNode. What a kill leaves is debris.
"""

from __future__ import annotations

import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.paths import join, parent_of


@dataclass(frozen=True, slots=True)
class _Draft:
    path: str
    data: bytes
    written: Future[FileStatus]


class PrewrittenRecords:
    """The drafts of one attempt. Leaving the block removes those that nobody put in place."""

    def __init__(self, place: SinkInterval) -> None:
        self._storage = place.storage
        self._folder = place.folder("lease")
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="firesteel-draft")
        self._drafts: dict[str, _Draft] = {}

    def begin(self, path: str, data: bytes) -> None:
        """Start writing what `path` shall hold."""
        hidden = join(self._folder, f".draft-{secrets.token_hex(8)}")
        self._drafts[path] = _Draft(hidden, data, self._pool.submit(self._storage.create, hidden, data))

    def create(self, path: str, data: bytes) -> None:
        """As `Storage.create`: by the draft of `path` where it holds `data`, else anew."""
        draft = self._drafts.get(path)
        if draft is None or draft.data != data or draft.written.exception() is not None:
            self._storage.create(path, data)
            return
        try:
            self._storage.rename(draft.path, path)
        except StorageError as error:
            if error.code != "FS8003":
                raise
            self._storage.mkdirs(parent_of(path))
            self._storage.rename(draft.path, path)
        del self._drafts[path]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        for draft in self._drafts.values():
            if draft.written.exception() is None:
                self._storage.delete(draft.path)
