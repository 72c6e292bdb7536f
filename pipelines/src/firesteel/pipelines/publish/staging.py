"""What Spark staged, held against the plan."""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.conf.errors import StorageError
from firesteel.conf.partitions import is_data
from firesteel.pipelines.publish.records import PublishedFile
from firesteel.pipelines.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Staged:
    """Planned directories that have data, and the data files in them, relative to the sink."""

    directories: frozenset[str]
    files: tuple[PublishedFile, ...]


def check_planned(planned: tuple[str, ...]) -> None:
    """Refuse directories that are not below the sink, doubled, or within one another.

    Raises
    ------
    ValueError
        The plan is at fault, not the data.
    """
    for path in planned:
        if path and any(part in {"", ".", ".."} for part in path.split("/")):
            raise ValueError(f"not a directory relative to the sink: {path!r}")
    for path in planned:
        if any(_within(path, other) for other in planned if other != path) or planned.count(path) > 1:
            raise ValueError(f"planned directories overlap: {path!r}")


def read_staged(storage: Storage, staging_path: str, planned: tuple[str, ...]) -> Staged:
    """List the staged data files.

    Raises
    ------
    StorageError
        FS8007 when one lies outside `planned`: publishing it would touch what this interval must not.
    """
    directories: set[str] = set()
    files: list[PublishedFile] = []
    outside: list[str] = []
    for status in storage.walk(staging_path):
        path = status.path[len(staging_path) :].lstrip("/")
        if not is_data(path):
            continue
        home = next((directory for directory in planned if _within(path, directory)), None)
        if home is None:
            outside.append(path.rpartition("/")[0] or path)
        else:
            directories.add(home)
            files.append(PublishedFile(path, status.length))
    if outside:
        names = sorted(set(outside))
        raise StorageError(
            "FS8007",
            f"{len(outside)} staged file(s) lie outside the planned partitions: {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}. Nothing was published.",
            hint="Rows carry partition values that the interval does not select. Filter them in a step, or plan them.",
        )
    return Staged(frozenset(directories), tuple(files))


def _within(path: str, directory: str) -> bool:
    return not directory or path == directory or path.startswith(f"{directory}/")
