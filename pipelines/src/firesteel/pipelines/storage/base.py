"""The storage Protocol: the operations that the transaction needs, and their guarantees.

Paths are absolute within one file system (`/ml/scores/dt=2013-06-01`), without scheme or authority. A new
storage is one class that passes `tests/contract/test_storage.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file or directory. `length` is in bytes (0 for directories), `modified_ms` since the epoch by the storage's clock."""

    path: str
    is_dir: bool
    length: int
    modified_ms: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


class Storage(Protocol):
    """A file system with atomic renames that never overwrite. All failures are `StorageError` with an FS8xxx code."""

    @property
    def base_uri(self) -> str:
        """Scheme and authority: `base_uri + path` is the URI that Spark reads (`hdfs://nn:8020`, `file://`)."""

    def status(self, path: str) -> FileStatus | None:
        """Return the status of `path`; None if it does not exist."""

    def list(self, path: str) -> list[FileStatus]:
        """Return the direct children, sorted by name. FS8003 if `path` is missing."""

    def walk(self, path: str) -> Iterator[FileStatus]:
        """Return all files below `path`, sorted by path; none if `path` is missing."""

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        """Return all files below `paths`, sorted by path. No path may be below another.

        The result is that of `walk`, by the fastest method: for plans, which list many directories.
        """

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a file; fewer than `length` only at its end. FS8003 if it is missing."""

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """Return the same as `read`, by the fastest method: for plans, which read the footers of many files."""

    def checksum(self, path: str, length: int) -> str:
        """`ALGORITHM:HEX` of a file's content; empty where the storage has none. FS8003 when missing.

        Of a file that is longer than `length` bytes, a storage may read fewer bytes: it returns another checksum than of any file of
        `length` bytes.
        """

    def create(self, path: str, data: bytes) -> FileStatus:
        """Create a complete file or none, and its parents. FS8004 if `path` exists: one of two callers wins."""

    def replace(self, path: str, data: bytes) -> FileStatus:
        """Write or overwrite a file. Readers may see a truncated file: for heartbeats and reports only."""

    def rename(self, source: str, target: str) -> None:
        """Move a file or directory atomically. FS8004 if `target` exists, FS8003 if `source` or the target's parent is missing."""

    def mkdirs(self, path: str) -> None:
        """Create a directory and its parents, unless it exists."""

    def delete(self, path: str) -> bool:
        """Delete a file, or a directory with its content. Return False if it does not exist."""

    def close(self) -> None:
        """Release connections. May be called twice."""
