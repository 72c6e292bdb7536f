"""Listing by Hadoop RPC: for plans over many partitions, ten times as many directories a second as WebHDFS.

`hdfs-native` speaks the NameNode's own protocol (Rust, no JVM). Only listings for plans go this way: what publishes asks the
one door that its faults are tested on. See docs/adr/0004-listing.md for the numbers.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from firesteel.pipelines.storage.base import FileStatus

if TYPE_CHECKING:
    from hdfs_native import Client

_log = logging.getLogger(__name__)


class RpcListing:
    """Lists directories of one HDFS. Safe in threads; made of nothing until it is asked."""

    def __init__(self, authority: str) -> None:
        self._uri = f"hdfs://{authority}"
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._broken = ""

    def files(self, path: str) -> list[FileStatus] | None:
        """All files below `path`, unsorted; empty when it is missing, None when RPC cannot be had: ask in another way."""
        if self._broken:
            return None
        try:
            found = [_status(each) for each in self._connected().list_status(path, recursive=True) if not each.isdir]
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001 - the library has no common error; whatever it is, WebHDFS is asked
            self._give_up(error)
            return None
        return found

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                from hdfs_native import Client

                self._client = Client(self._uri, config_dir=os.environ.get("HADOOP_CONF_DIR") or None)
            return self._client

    def _give_up(self, error: Exception) -> None:
        """Once is enough: the reason does not change while a plan is made."""
        with self._lock:
            if not self._broken:
                self._broken = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                _log.warning("%s is listed by WebHDFS, which is slower; RPC: %s", self._uri, self._broken)


def _status(each: Any) -> FileStatus:
    return FileStatus(each.path, is_dir=False, length=int(each.length), modified_ms=int(each.modification_time))
