"""The input manifest: which directories one interval reads of a source, whether they are ready, and their files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from firesteel.conf.errors import FiresteelError, InputNotReady, SpecError, Where
from firesteel.conf.partitions import partition_name
from firesteel.conf.quantities import duration
from firesteel.pipelines.plan.intervals import Slot, selected_values
from firesteel.pipelines.plan.model import InputFile, SourceInput
from firesteel.pipelines.spec.model import Source
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.paths import join


@dataclass(frozen=True, slots=True)
class Located:
    """A source's place: its storage and the path within it."""

    storage: Storage
    path: str


Only = Mapping[str, tuple[str, ...]]
"""Partition column -> the only values that can matter (rules/prune_partitions)."""


def selected(source: Source, slot: Slot, where: Where, only: Only | None = None) -> dict[str, tuple[str, ...]]:
    """The partition values that `slot` reads, by column, for the columns that `select` or `only` names."""
    result: dict[str, tuple[str, ...]] = {}
    for column, select in source.select.items():
        try:
            result[column] = selected_values(select, slot)
        except ValueError as error:
            raise SpecError("FS1004", f"select of `{column}`: {error}.", where=where) from None
    for column, values in (only or {}).items():
        result[column] = tuple(value for value in result.get(column, values) if value in values)
    return result


def read_manifest(
    name: str,
    source: Source,
    located: Located,
    slot: Slot,
    *,
    ready_column: str,
    where: Where,
    only: Only | None = None,
    waited_s: float = 0.0,
) -> tuple[SourceInput | None, list[FiresteelError]]:
    """List what `slot` reads.

    Parameters
    ----------
    ready_column
        The interval's column: its directories carry the ready marker and are the ones that can be missing.
    only
        Values that alone can matter; other directories are not listed.
    waited_s
        How long it was waited for, for the message.

    Returns
    -------
    The input (None when the source says `on_missing: skip` and something is missing), and FS4001 or FS4002 for each
    directory that is not ready.
    """
    values = selected(source, slot, where, only)
    columns = list(source.partitions)
    level = columns.index(ready_column) + 1 if ready_column in columns else 0
    if any(column not in values for column in columns[:level]):
        level = 0
    heads = _directories(columns[:level], values)
    errors: list[FiresteelError] = []
    present = []
    missing = False
    after = f" after {duration(waited_s)}" if waited_s else ""
    for head in heads:
        path = join(located.path, head)
        if located.storage.status(path) is None:
            missing = True
            if source.on_missing == "fail":
                errors.append(
                    InputNotReady(
                        "FS4002",
                        f"{name} {slot.id}: {located.storage.base_uri}{path} is missing{after}. Nothing was read.",
                        hint="Safe to retry once it is there; or set on_missing: skip | empty.",
                    )
                )
        elif source.ready and located.storage.status(join(path, source.ready.marker)) is None:
            found = sum(1 for _ in _files(located.storage, path))
            errors.append(
                InputNotReady(
                    "FS4001",
                    f"{name} {head or slot.id}: {source.ready.marker} is missing{after} ({found} files present). Nothing was read.",
                    hint="Safe to retry.",
                )
            )
        else:
            present.append(head)
    if errors or (missing and source.on_missing == "skip"):
        return None, errors
    leaf = next((index for index, column in enumerate(columns) if column not in values), len(columns))
    directories = [
        "/".join(filter(None, (head, tail))) for head in present for tail in _directories(columns[level:leaf], values)
    ]
    return SourceInput(name, tuple(directories), list_files(located.storage, located.path, tuple(directories))), []


def list_files(storage: Storage, root: str, directories: tuple[str, ...]) -> tuple[InputFile, ...]:
    """The data files in `directories` below `root`, sorted by path. A directory that is not there holds none."""
    files = [
        InputFile(status.path[len(root) :].lstrip("/"), status.length, status.modified_ms)
        for directory in directories
        for status in _files(storage, join(root, directory))
    ]
    return tuple(sorted(files, key=lambda file: file.path))


def _directories(columns: list[str], values: dict[str, tuple[str, ...]]) -> list[str]:
    parts = [[partition_name(column, value) for value in values[column]] for column in columns]
    return ["/".join(combination) for combination in itertools.product(*parts)]


def _files(storage: Storage, path: str) -> list[FileStatus]:
    """Data files below `path`: as Spark does, names that start with `_` or `.` are left out."""
    return [
        status
        for status in storage.scan([path])
        if not any(part.startswith(("_", ".")) for part in status.path[len(path) :].split("/") if part)
    ]
