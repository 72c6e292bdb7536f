"""Listing by Hadoop RPC: for plans over many partitions, ten times as many directories a second as WebHDFS.

`hdfs-native` speaks the NameNode's own protocol (Rust, no JVM). Only listings for plans go this way: what publishes asks the
one door that its faults are tested on. See docs/adr/0004-listing.md for the numbers.
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
    """Lists directories of one HDFS. Safe in threads; made of nothing until it is asked."""

    def __init__(self, authority: str) -> None:
        self._uri = f"hdfs://{authority}"
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._broken = ""
        self._reads = True
        _listings.add(self)

    def files(self, paths: Sequence[str]) -> list[FileStatus] | None:
        """All files below `paths`, unsorted; missing ones have none. None when RPC cannot be had: ask in another way."""
        if self._broken:
            return None
        try:
            return [status for path in paths for status in self._below(path)]
        except Exception as error:  # noqa: BLE001 - the library has no common error; whatever it is, WebHDFS is asked
            self._give_up(error)
            return None

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """Bytes of a file, from the DataNodes; None when they cannot be had in this way."""
        if self._broken or not self._reads:
            return None
        try:
            return bytes(self._connected().read(path).read_range(offset, length))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - as in `files`
            self._reads = False  # DataNodes may be out of reach; once is enough to know
            _log.info("%s%s: read by WebHDFS; RPC: %s", self._uri, path, error)
            return None

    def close(self) -> None:
        """Nothing to do: the library's client closes its connections with itself."""

    def _below(self, path: str) -> list[FileStatus]:
        try:
            found = self._connected().list_status(path, recursive=True)
            # The listing of a file is the file.
            return [_status(each) for each in found if not each.isdir and each.path != path]
        except FileNotFoundError:
            return []

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                from hdfs_native import Client

                self._client = Client(self._uri, config_dir=os.environ.get("HADOOP_CONF_DIR") or None)
            return self._client

    def leave_behind(self) -> None:
        """In a forked child: connect anew, and never let go of the parent's client.

        Dropping it would wait for its threads, which no child has: for ever, and for pyspark before it has started Java.
        """
        self._lock = threading.Lock()
        if self._client is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._client))
            self._client = None

    def _give_up(self, error: Exception) -> None:
        """Once is enough: the reason does not change while a plan is made."""
        with self._lock:
            if not self._broken:
                self._broken = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                _log.warning("%s is listed by WebHDFS, which is slower; RPC: %s", self._uri, self._broken)


def _status(each: Any) -> FileStatus:
    return FileStatus(each.path, is_dir=False, length=int(each.length), modified_ms=int(each.modification_time))


def _leave_all_behind() -> None:
    for listing in list(_listings):
        listing.leave_behind()


os.register_at_fork(after_in_child=_leave_all_behind)
