"""Batched listing: list 100 directories in one call to the NameNode (HDFS-13616, Hadoop 3.3 and newer).

A plan with many partitions lists as many directories, and one call per directory costs far more than the names in it. The
numbers are in docs/adr/0004-listing.md.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.hadoop_rpc import DIRECTORY, Connection, RpcFailure, message
from firesteel.pipelines.storage.namenodes import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, RETRIABLE, RemoteError

_log = logging.getLogger(__name__)

BATCH = 100
"""Default of dfs.batched.ls.limit: the maximum number of directories in one call."""


class BatchedListing:
    """Lists directories of one HDFS without Kerberos. Safe in threads and across forks. Connects on first use.

    Parameters
    ----------
    authority
        The authority of the URI, for messages.
    addresses
        Host and port of the NameNodes' RPC; several with HA.
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
        self._idle: deque[tuple[int, Connection]] = deque()  # a deque needs no lock, which a fork could leave locked
        self._first = 0  # the NameNode that answered last
        self._failure = ""

    def files(self, paths: Sequence[str]) -> list[FileStatus] | None:
        """Return all files below `paths`, unsorted; None if batched listing does not work.

        Raises
        ------
        StorageError
            FS8002: this user may not list a directory.
        """
        if self._failure:
            return None
        try:
            return self._files_below(paths)
        except (RpcFailure, OSError) as error:
            # Do not retry: the cause does not change while a plan is made.
            if not self._failure:
                self._failure = f"{type(error).__name__}: {error}"
                _log.info(
                    "hdfs://%s: batched listing failed, another method is used: %s", self._authority, self._failure
                )
            return None

    def read(self, path: str, offset: int, length: int) -> bytes | None:  # noqa: ARG002 - the signature of Lister
        """Return None: NameNodes do not serve file content."""
        return None

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        while self._idle:
            self._idle.pop()[1].close()

    def _files_below(self, paths: Sequence[str]) -> list[FileStatus]:
        files: list[FileStatus] = []
        folders = list(paths)
        while folders:
            deeper: list[str] = []
            for start in range(0, len(folders), self._batch):
                for folder, entry in self._children(folders[start : start + self._batch]):
                    if not entry.name:  # the listing of a file is the file
                        continue
                    path = f"{folder.rstrip('/')}/{entry.name.decode()}"
                    if entry.file_type == DIRECTORY:
                        deeper.append(path)
                    else:
                        files.append(FileStatus(path, is_dir=False, length=entry.length, modified_ms=entry.modified_ms))
            folders = deeper
        return files

    def _children(self, folders: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Return the children of `folders`, each with its folder. A folder that is missing, or is deleted meanwhile, has none."""
        after, more = b"", True
        while more:
            request = message("BatchedListingRequest", paths=folders, start_after=after, need_location=False)
            answer = self._call(request)
            for listing in answer.listings:
                folder = folders[listing.parent]
                if listing.HasField("failure"):
                    failure = listing.failure
                    error = RemoteError(
                        failure.exception.rpartition(".")[2], failure.message.partition("\n")[0].strip(), 0
                    )
                    if not error.missing:
                        raise error.as_storage_error(f"list hdfs://{self._authority}{folder}")
                for entry in listing.entries:
                    yield folder, entry
            after, more = answer.start_after, answer.has_more

    def _call(self, request: Any) -> Any:
        """Call one NameNode after the other until one answers."""
        failure: RpcFailure | OSError = OSError("no NameNode is known")
        for turn in range(len(self._addresses)):
            index = (self._first + turn) % len(self._addresses)
            try:
                answer = self._call_one(index, request)
            except OSError as error:
                failure = error
            except RpcFailure as error:
                if error.exception not in RETRIABLE:
                    raise
                failure = error
            else:
                self._first = index
                return answer
        raise failure

    def _call_one(self, index: int, request: Any) -> Any:
        connection = self._idle_connection(index)
        if connection is not None:
            try:
                return self._call_on(index, connection, request)
            except OSError as error:  # NameNodes close connections that are idle for some seconds
                _log.debug("hdfs://%s: reconnecting: %s", self._authority, error)
        return self._call_on(index, Connection(*self._addresses[index], self._user, self._timeouts_s), request)

    def _call_on(self, index: int, connection: Connection, request: Any) -> Any:
        try:
            answer = connection.call("getBatchedListing", request, "BatchedListingResponse")
        except BaseException:
            connection.close()
            raise
        self._idle.append((index, connection))
        return answer

    def _idle_connection(self, index: int) -> Connection | None:
        """Return an idle connection to a NameNode; None if there is none."""
        while True:
            try:
                owner, connection = self._idle.pop()
            except IndexError:
                return None
            if owner == index and connection.pid == os.getpid():
                return connection
            connection.close()  # of another NameNode, or of the process that forked this one
