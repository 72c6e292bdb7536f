"""Access files from tasks: local files, and HDFS through hdfs-native without a JVM.

pyarrow's HDFS client needs libhdfs and a JVM in each Python worker. WebHDFS is slower and does not support coalesced range reads.
hdfs-native continues to read when a DataNode fails, but not to write, so tasks write to local disk and upload complete files with
retries. Unlike the JVM's client, it does not wait for a NameNode that starts, so opening a file is retried, too.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from firesteel.conf.errors import RuntimeFault, StorageError

if TYPE_CHECKING:
    from firesteel.udfs.direct.spec import FileSystemSpec

RETRY_TIMEOUT_S = 120.0
"""Seconds to retry opening or uploading a file. A NameNode needs 30 s to detect a failed DataNode, and as long to start."""
_CHUNK = 4 << 20
T = TypeVar("T")


class Files(Protocol):
    """The file system interface of a task."""

    def open(self, path: str) -> Any:
        """Return a file that supports random access by pyarrow."""

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """Yield a writable file. The complete file exists when the block ends without an error."""


class LocalFiles:
    """Local files."""

    def open(self, path: str) -> Any:
        """Return a memory map."""
        import pyarrow as pa

        return pa.memory_map(path)

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """See Files."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("xb") as handle:
            yield handle


class HdfsFiles:
    """Files on HDFS."""

    def __init__(self, filesystem: FileSystemSpec) -> None:
        if filesystem.user:
            os.environ["HADOOP_USER_NAME"] = filesystem.user
        try:
            from hdfs_native import Client
        except ImportError:
            raise RuntimeFault(
                "FS9004",
                "hdfs-native is not installed on the executors.",
                hint="Install it: `pip install hdfs-native`. Or set `operator: arrow`.",
            ) from None
        self._client = Client(f"hdfs://{filesystem.authority}", dict(filesystem.settings))

    def open(self, path: str) -> Any:
        """Return a reader with its own position."""
        import pyarrow as pa

        return pa.PythonFile(_retry(f"{path} cannot be opened", lambda: self._client.read(path)), mode="r")

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """See Files."""
        with tempfile.TemporaryFile(prefix="firesteel-") as spool:
            yield spool
            _retry(f"{path} cannot be written", lambda: self._send(spool, path))

    def _send(self, spool: Any, path: str) -> None:
        from hdfs_native import WriteOptions

        spool.seek(0)
        with self._client.create(path, WriteOptions(overwrite=True, create_parent=True)) as sink:
            while chunk := spool.read(_CHUNK):
                sink.write(chunk)


def _retry(failure: str, action: Callable[[], T]) -> T:
    """Run an action with retries. Missing files and permission errors are raised immediately."""
    deadline = time.monotonic() + RETRY_TIMEOUT_S
    wait = 0.5
    while True:
        try:
            return action()
        except (FileNotFoundError, PermissionError):
            raise
        except (RuntimeError, OSError) as error:
            if time.monotonic() + wait > deadline:
                raise StorageError(
                    "FS8001",
                    f"{failure} after {RETRY_TIMEOUT_S:g} s of retries: {type(error).__name__}: {str(error)[:300]}",
                ) from error
        time.sleep(wait)
        wait = min(wait * 2, 10.0)


def open_files(filesystem: FileSystemSpec) -> Files:
    """Return the file system of a specification."""
    return HdfsFiles(filesystem) if filesystem.scheme == "hdfs" else LocalFiles()
