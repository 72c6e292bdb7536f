"""Batched listing: a hundred directories in one call to the NameNode (HDFS-13616, Hadoop 3.3 and newer).

A plan over many partitions lists as many directories. One call each costs the client and the NameNode far more than the
names do: see docs/adr/0004-listing.md for the numbers.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.hadoop_rpc import DIRECTORY, Connection, RpcFailure, message
from firesteel.pipelines.storage.namenodes import CONNECT_TIMEOUT_S, NOT_NOW, READ_TIMEOUT_S, Remote

_log = logging.getLogger(__name__)

BATCH = 100
"""dfs.batched.ls.limit: the most directories that a NameNode takes in one call, by default."""


class BatchedListing:
    """Lists directories of one HDFS without Kerberos. Safe in threads and across forks; made of nothing until it is asked.

    Parameters
    ----------
    authority
        As it stands in the URI; for messages.
    addresses
        Host and port of the NameNodes' RPC; with HA, several.
    """

    def __init__(
        self,
        authority: str,
        addresses: Sequence[tuple[str, int]],
        user: str,
        *,
        batch: int = BATCH,
        timeouts_s: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
    ) -> None:
        self._authority = authority
        self._addresses = tuple(addresses)
        self._user = user
        self._batch = batch
        self._timeouts_s = timeouts_s
        self._idle: deque[tuple[int, Connection]] = deque()  # a deque needs no lock, which a fork could leave taken
        self._first = 0  # the NameNode that answered last
        self._broken = ""

    def files(self, paths: Sequence[str]) -> list[FileStatus] | None:
        """All files below `paths`, unsorted; None when they cannot be had in this way.

        Raises
        ------
        StorageError
            FS8002 when a directory may not be listed.
        """
        if self._broken:
            return None
        try:
            return self._below(paths)
        except (RpcFailure, OSError) as error:
            # Once is enough: the reason does not change while a plan is made.
            if not self._broken:
                self._broken = f"{type(error).__name__}: {error}"
                _log.info("hdfs://%s: no batched listing, another way is taken: %s", self._authority, self._broken)
            return None

    def read(self, path: str, offset: int, length: int) -> bytes | None:  # noqa: ARG002 - the Lister's
        """None: NameNodes hold no bytes of files."""
        return None

    def close(self) -> None:
        """Hang up; the next call connects anew."""
        while self._idle:
            self._idle.pop()[1].close()

    def _below(self, paths: Sequence[str]) -> list[FileStatus]:
        found: list[FileStatus] = []
        folders = list(paths)
        while folders:
            deeper: list[str] = []
            for start in range(0, len(folders), self._batch):
                for folder, entry in self._listed(folders[start : start + self._batch]):
                    if not entry.name:  # the listing of a file is the file
                        continue
                    path = f"{folder.rstrip('/')}/{entry.name.decode()}"
                    if entry.file_type == DIRECTORY:
                        deeper.append(path)
                    else:
                        found.append(FileStatus(path, is_dir=False, length=entry.length, modified_ms=entry.modified_ms))
            folders = deeper
        return found

    def _listed(self, folders: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """The children of `folders`, each with its folder. What is missing, or vanishes under way, has none."""
        after, more = b"", True
        while more:
            request = message("BatchedListingRequest", paths=folders, start_after=after, need_location=False)
            answer = self._ask(request)
            for listing in answer.listings:
                folder = folders[listing.parent]
                if listing.HasField("failure"):
                    why = listing.failure
                    remote = Remote(why.exception.rpartition(".")[2], why.message.partition("\n")[0].strip(), 0)
                    if not remote.missing:
                        raise remote.error(f"list hdfs://{self._authority}{folder}")
                for entry in listing.entries:
                    yield folder, entry
            after, more = answer.start_after, answer.has_more

    def _ask(self, request: Any) -> Any:
        """Ask one NameNode after the other until one answers."""
        failure: RpcFailure | OSError = OSError("no NameNode is known")
        for turn in range(len(self._addresses)):
            index = (self._first + turn) % len(self._addresses)
            try:
                answer = self._ask_one(index, request)
            except OSError as error:
                failure = error
            except RpcFailure as error:
                if error.exception not in NOT_NOW:
                    raise
                failure = error
            else:
                self._first = index
                return answer
        raise failure

    def _ask_one(self, index: int, request: Any) -> Any:
        connection = self._kept(index)
        if connection is not None:
            try:
                return self._call(index, connection, request)
            except OSError as error:  # NameNodes hang up on those who are silent for some seconds
                _log.debug("hdfs://%s: connecting anew: %s", self._authority, error)
        return self._call(index, Connection(*self._addresses[index], self._user, self._timeouts_s), request)

    def _call(self, index: int, connection: Connection, request: Any) -> Any:
        try:
            answer = connection.call("getBatchedListing", request, "BatchedListingResponse")
        except BaseException:
            connection.close()
            raise
        self._idle.append((index, connection))
        return answer

    def _kept(self, index: int) -> Connection | None:
        """A connection to a NameNode that no thread uses now."""
        while True:
            try:
                of, connection = self._idle.pop()
            except IndexError:
                return None
            if of == index and connection.pid == os.getpid():
                return connection
            connection.close()  # of a NameNode that is asked no more, or of the process that forked this one
