"""The storage Protocol: the few operations that the transaction needs, and what each promises.

Paths are absolute within one file system (`/ml/scores/dt=2013-06-01`), without scheme or authority. A third
implementation is one class that passes `tests/contract/test_storage.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file or directory. `length` in bytes (0 for directories), `modified_ms` since the epoch by the storage's clock."""

    path: str
    is_dir: bool
    length: int
    modified_ms: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


class Storage(Protocol):
    """A file system with atomic, strict renames. All failures are `StorageError` with an FS8xxx code."""

    @property
    def base_uri(self) -> str:
        """Scheme and authority: `base_uri + path` is the URI that Spark reads (`hdfs://nn:8020`, `file://`)."""

    def status(self, path: str) -> FileStatus | None:
        """The status of `path`, or None when there is nothing."""

    def list(self, path: str) -> list[FileStatus]:
        """Direct children, sorted by name. FS8003 when `path` is missing."""

    def walk(self, path: str) -> Iterator[FileStatus]:
        """All files below `path`, sorted by path; nothing when `path` is missing."""

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        """All files below `paths`, none of which is below another, sorted by path.

        As `walk`, in the quickest way there is: for plans, which look at many directories.
        """

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file. FS8003 when missing; fewer bytes than asked for only at the end of the file."""

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """As `read`, in the quickest way there is: for plans, which look into the footers of many files."""

    def checksum(self, path: str) -> str:
        """`ALGORITHM:HEX` of a file's content; empty where the storage has none. FS8003 when missing."""

    def create(self, path: str, data: bytes) -> FileStatus:
        """Create a file whole or not at all, making its parents. FS8004 when `path` exists: one of two callers wins."""

    def replace(self, path: str, data: bytes) -> FileStatus:
        """Write a file over whatever is there. Readers may see it cut short: for heartbeats and reports only."""

    def rename(self, source: str, target: str) -> None:
        """Move a file or directory atomically. FS8004 when `target` exists, FS8003 when `source` or target's parent is missing."""

    def mkdirs(self, path: str) -> None:
        """Make a directory and its parents; nothing to do when it exists."""

    def delete(self, path: str) -> bool:
        """Remove a file, or a directory with all below it. False when there was nothing."""

    def close(self) -> None:
        """Release connections; may be called twice."""
