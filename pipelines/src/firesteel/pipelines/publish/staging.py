"""Compare the staged files with the plan."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from firesteel.conf.errors import StorageError
from firesteel.conf.partitions import is_data
from firesteel.pipelines.publish.records import PublishedFile
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join

READERS = 8
"""Files whose digests are computed at the same time."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The planned directories with data, and their data files, relative to the sink."""

    directories: frozenset[str]
    files: tuple[PublishedFile, ...]


def check_planned(planned: tuple[str, ...]) -> None:
    """Check that directories are relative to the sink, distinct and not nested.

    Raises
    ------
    ValueError
        The plan is not valid.
    """
    for path in planned:
        if path and any(part in {"", ".", ".."} for part in path.split("/")):
            raise ValueError(f"{path!r} is not a directory relative to the sink")
    for path in planned:
        if any(within(path, other) for other in planned if other != path) or planned.count(path) > 1:
            raise ValueError(f"planned directories overlap: {path!r}")


def read_staged(storage: Storage, staging_path: str, planned: tuple[str, ...]) -> Staged:
    """Return the staged data files.

    Raises
    ------
    StorageError
        FS8007 when a file is outside `planned`: publishing it would change data of another interval.
    """
    directories: set[str] = set()
    files: list[PublishedFile] = []
    outside: list[str] = []
    for status in storage.walk(staging_path):
        path = status.path[len(staging_path) :].lstrip("/")
        if not is_data(path):
            continue
        home = next((directory for directory in planned if within(path, directory)), None)
        if home is None:
            outside.append(path.rpartition("/")[0] or path)
        else:
            directories.add(home)
            files.append(PublishedFile(path, status.length))
    if outside:
        names = sorted(set(outside))
        raise StorageError(
            "FS8007",
            f"{len(outside)} staged file(s) are outside the planned partitions: {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}. Nothing was published.",
            hint="Filter out the rows with partition values that the interval does not select, or select these values.",
        )
    return Staged(frozenset(directories), tuple(files))


def with_digests(storage: Storage, folder: str, files: tuple[PublishedFile, ...]) -> tuple[PublishedFile, ...]:
    """Return the files with the digests of their content in a folder."""
    if not files:
        return ()
    with ThreadPoolExecutor(min(READERS, len(files)), thread_name_prefix="firesteel-digest") as pool:
        digests = pool.map(lambda file: storage.checksum(join(folder, file.path), file.length), files)
        return tuple(replace(file, digest=digest) for file, digest in zip(files, digests, strict=True))


def within(path: str, directory: str) -> bool:
    """Return whether a file is below a directory; both are relative to the sink, and an empty directory is the sink."""
    return not directory or path == directory or path.startswith(f"{directory}/")
