"""File systems of the tasks: local files, and HDFS by hdfs-native, which needs no JVM.

pyarrow's own HDFS client needs libhdfs and a JVM in each Python worker; WebHDFS is slower and has no ranges that Parquet could
coalesce. hdfs-native reads on when a DataNode dies. It does not write on: files are made on local disk and sent whole, and sent
again when that fails. It does not wait for a NameNode that starts, either, as the JVM's client does.
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
    from firesteel.udfs.direct.spec import OutputLocation

PATIENCE_S = 120.0
"""How long a file is tried to be opened or sent. A NameNode takes 30 s to see that a DataNode is gone, and as long to start."""
_CHUNK = 4 << 20
T = TypeVar("T")


class Files(Protocol):
    """What a task needs of a file system."""

    def open(self, path: str) -> Any:
        """Something that pyarrow can read from at random."""

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """Something to write a new file with; it is there, whole, when the block ends without an error."""


class LocalFiles:
    """Files of this machine."""

    def open(self, path: str) -> Any:
        """A memory map."""
        import pyarrow as pa

        return pa.memory_map(path)

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """See Files."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("xb") as handle:
            yield handle


class HdfsFiles:
    """Files of an HDFS."""

    def __init__(self, place: OutputLocation) -> None:
        if place.user:
            os.environ["HADOOP_USER_NAME"] = place.user
        try:
            from hdfs_native import Client
        except ImportError:
            raise RuntimeFault(
                "FS9004",
                "hdfs-native is not installed on the executors.",
                hint="pip install hdfs-native, or set operator: arrow.",
            ) from None
        self._client = Client(f"hdfs://{place.authority}", dict(place.settings))

    def open(self, path: str) -> Any:
        """A reader with its own cursor."""
        import pyarrow as pa

        return pa.PythonFile(_patiently(f"{path} could not be opened", lambda: self._client.read(path)), mode="r")

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """See Files."""
        with tempfile.TemporaryFile(prefix="firesteel-") as spool:
            yield spool
            _patiently(f"{path} could not be written", lambda: self._send(spool, path))

    def _send(self, spool: Any, path: str) -> None:
        from hdfs_native import WriteOptions

        spool.seek(0)
        with self._client.create(path, WriteOptions(overwrite=True, create_parent=True)) as sink:
            while chunk := spool.read(_CHUNK):
                sink.write(chunk)


def _patiently(failure: str, act: Callable[[], T]) -> T:
    """Act until it works; what time does not mend is raised at once."""
    deadline = time.monotonic() + PATIENCE_S
    wait = 0.5
    while True:
        try:
            return act()
        except (FileNotFoundError, PermissionError):
            raise
        except (RuntimeError, OSError) as error:
            if time.monotonic() + wait > deadline:
                raise StorageError(
                    "FS8001", f"{failure} for {PATIENCE_S:g} s: {type(error).__name__}: {str(error)[:300]}"
                ) from error
        time.sleep(wait)
        wait = min(wait * 2, 10.0)


def open_files(place: OutputLocation) -> Files:
    """The file system of a place."""
    return HdfsFiles(place) if place.scheme == "hdfs" else LocalFiles()
