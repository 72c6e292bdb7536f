"""Listing by Hadoop RPC: lists ten times as many directories per second as WebHDFS, for plans with many partitions.

`hdfs-native` implements the NameNode's protocol (in Rust, without a JVM). It is used only for plans: the publish uses WebHDFS,
whose failures are tested. The numbers are in docs/adr/0004-listing.md.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from firesteel.pipelines.storage.base import FileStatus

if TYPE_CHECKING:
    from hdfs_native import Client

_log = logging.getLogger(__name__)


_listings: weakref.WeakSet[RpcListing] = weakref.WeakSet()


class RpcListing:
    """Lists directories of one HDFS. Safe in threads. Connects on first use."""

    def __init__(self, authority: str) -> None:
        self._uri = f"hdfs://{authority}"
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._failure = ""
        self._reads = True
        _listings.add(self)

    def files(self, paths: Sequence[str]) -> list[FileStatus] | None:
        """Return all files below `paths`, unsorted; a missing path has none. None if RPC does not work."""
        if self._failure:
            return None
        try:
            return [status for path in paths for status in self._files_below(path)]
        except Exception as error:  # noqa: BLE001 - the library has no common error class; WebHDFS is used instead
            self._disable(error)
            return None

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """Return bytes of a file from the DataNodes; None if this does not work."""
        if self._failure or not self._reads:
            return None
        try:
            return bytes(self._connected().read(path).read_range(offset, length))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - as in `files`
            self._reads = False  # DataNodes may be unreachable; do not retry
            _log.info("%s%s is read by WebHDFS, because RPC failed: %s", self._uri, path, error)
            return None

    def close(self) -> None:
        """Do nothing: the library closes connections with its client."""

    def _files_below(self, path: str) -> list[FileStatus]:
        try:
            entries = self._connected().list_status(path, recursive=True)
            # The listing of a file is the file.
            return [_status(entry) for entry in entries if not entry.isdir and entry.path != path]
        except FileNotFoundError:
            return []

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                from hdfs_native import Client

                self._client = Client(self._uri, config_dir=os.environ.get("HADOOP_CONF_DIR") or None)
            return self._client

    def abandon_client(self) -> None:
        """In a forked child: forget the parent's client without freeing it.

        Freeing it would wait forever for its threads, which a child does not have. pyspark forks before it starts Java.
        """
        self._lock = threading.Lock()
        if self._client is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._client))
            self._client = None

    def _disable(self, error: Exception) -> None:
        """Stop using RPC: the cause does not change while a plan is made."""
        with self._lock:
            if not self._failure:
                self._failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                _log.warning(
                    "%s is listed by WebHDFS, which is slower, because RPC failed: %s", self._uri, self._failure
                )


def _status(entry: Any) -> FileStatus:
    return FileStatus(entry.path, is_dir=False, length=int(entry.length), modified_ms=int(entry.modification_time))


def _abandon_clients() -> None:
    for listing in list(_listings):
        listing.abandon_client()


os.register_at_fork(after_in_child=_abandon_clients)
