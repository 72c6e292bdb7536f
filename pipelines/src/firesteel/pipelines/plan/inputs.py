"""The input manifest: which directories one interval reads of a source, whether they are ready, and their files.

What `select` names and what the directories hold are compared as typed values, both ways, at every partition level: a selected
value without a directory is missing, and a directory in the selected range that the spec cannot place is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any, TypeVar

from firesteel.conf.errors import FiresteelError, InputNotReady, SpecError, StorageError, Where
from firesteel.conf.partitions import (
    PartitionValue,
    is_data,
    is_selectable,
    parse_directory,
    parse_selected,
    parse_value,
    partition_name,
    value_text,
)
from firesteel.conf.quantities import duration
from firesteel.pipelines.plan.intervals import Slot, selected_values
from firesteel.pipelines.plan.model import InputFile, SourceInput
from firesteel.pipelines.spec.model import Range, Select, Source
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join

T = TypeVar("T")

_MOVE = "Rename it, or move it away; names that start with `.` or `_` are not read."
_PLAIN = "Write its current rows as plain Parquet, and give that directory: some of its files may be removed rows."
_LOGS = {"_delta_log": "a Delta table", "_spark_metadata": "the output of a Spark stream", ".hoodie": "a Hudi table"}
"""The log in a table's root -> the table's format."""


@dataclass(frozen=True, slots=True)
class Located:
    """A source's place: its storage and the path within it."""

    storage: Storage
    path: str


Only = Mapping[str, tuple[str, ...]]
"""Partition column -> the only values that can matter (rules/prune_partitions)."""


def selected(source: Source, slot: Slot, where: Where) -> dict[str, tuple[str, ...]]:
    """The partition values that `slot` reads, by column, for the columns that `select` names.

    Each value is written as Spark writes it in a directory's name: `05` of an int partition is `5`.

    Raises
    ------
    SpecError
        FS1004 when a value is not of its partition's type.
    """
    return {
        column: tuple(dict.fromkeys(value_text(value) for value in _selected(source, column, select, slot, where)))
        for column, select in source.select.items()
    }


def _selected(source: Source, column: str, select: Select, slot: Slot, where: Where) -> list[PartitionValue]:
    kind = _type_of(source, column)
    try:
        return [parse_selected(text, kind) for text in selected_values(select, slot)]
    except ValueError as error:
        raise SpecError("FS1004", f"select of `{column}`: {error}.", where=where) from None


def below(folder: str, name: str) -> str:
    """A path below the source's root; `folder` is "" for the root itself."""
    return f"{folder}/{name}" if folder else name


def _type_of(source: Source, column: str) -> str:
    return parse_column_type(source.partitions[column])[0]


@dataclass(frozen=True, slots=True)
class Root:
    """What a source's path is: missing, of another kind (a sentence, and what to do), or a directory of plain files."""

    is_there: bool = True
    problem: str = ""
    hint: str = ""


def _days(source: Source, column: str, select: Select, slot: Slot) -> frozenset[PartitionValue]:
    """The days that texts without a time of day select of a timestamp partition."""
    if not _type_of(source, column).startswith("timestamp"):
        return frozenset()
    return frozenset(parse_value(text, "date") for text in selected_values(select, slot) if _is_day(text))


def _is_day(text: str) -> bool:
    return ":" not in text and is_selectable(text, "date")


@dataclass(frozen=True, slots=True)
class Branches:
    """The partition directories in one directory: value -> names, and what does not fit (a sentence each)."""

    names: Mapping[PartitionValue, tuple[str, ...]]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """The partition directories of one source. Each is listed once, however many intervals ask. Safe in threads."""

    source: Source
    located: Located
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _asked: dict[tuple[str, int], Future[Any]] = field(default_factory=dict)

    def uri(self, path: str) -> str:
        """The URI of a path below the source's root, for messages."""
        shown = path if _is_utf8(path) else ascii(path)[1:-1]
        return f"{self.located.storage.base_uri}{join(self.located.path, shown)}"

    def root(self) -> Root:
        """The source's own directory: whether it is there, and whether it is one of plain files."""
        return self._once(("", -1), self._look)

    def branches(self, path: str, depth: int) -> Branches:
        """The directories in `path`, which hold the values of the column at `depth`. A missing directory has none."""
        return self._once((path, depth), lambda: self._list(path, depth))

    def _once(self, key: tuple[str, int], ask: Callable[[], T]) -> T:
        with self._lock:
            known = self._asked.get(key)
            asked: Future[T] = known or self._asked.setdefault(key, Future())
        if known is None:
            try:
                asked.set_result(ask())
            except BaseException as error:
                asked.set_exception(error)
                raise
        return asked.result()

    def _look(self) -> Root:
        found = self.located.storage.status(self.located.path)
        if found is None:
            return Root(is_there=False)
        if not found.is_dir:
            return Root(problem=f"{self.uri('')} is a file.", hint="Give its directory.")
        other = self._other_format()
        return (
            Root(problem=f"{self.uri('')} is {other}, not a directory of Parquet files.", hint=_PLAIN)
            if other
            else Root()
        )

    def _other_format(self) -> str:
        """The format of a table whose own log says which of its files count; "" where there is none."""
        storage, path = self.located.storage, self.located.path
        for name, kind in _LOGS.items():
            if storage.status(join(path, name)) is not None:
                return kind
        metadata = storage.status(join(path, "metadata"))
        inside = storage.list(metadata.path) if metadata is not None and metadata.is_dir else []
        iceberg = any(each.name == "version-hint.text" or each.name.endswith(".metadata.json") for each in inside)
        return "an Iceberg table" if iceberg else ""

    def _list(self, path: str, depth: int) -> Branches:
        try:
            children = self.located.storage.list(join(self.located.path, path))
        except StorageError as error:
            if error.code != "FS8003":
                raise
            return Branches({}, ())
        is_selected = list(self.source.partitions)[depth] in self.source.select
        marker = marker_of(self.source)
        names: dict[PartitionValue, tuple[str, ...]] = {}
        problems = []
        for child in children:
            is_marker = child.name == marker and not child.is_dir
            if not is_data(child.name) or is_marker or (is_selected and "=" not in child.name):
                continue
            try:
                value = self.value(child.name, depth, is_dir=child.is_dir)
            except ValueError as error:
                problems.append(f"{self.uri(below(path, child.name))}: {error}.")
            else:
                names[value] = (*names.get(value, ()), child.name)
        return Branches(names, tuple(problems))

    def value(self, name: str, depth: int, *, is_dir: bool = True) -> PartitionValue:
        """The value of a directory at a level. ValueError, a phrase, when it is none."""
        column = list(self.source.partitions)[depth]
        if not _is_utf8(name):
            raise ValueError("the name is not UTF-8")
        if not is_dir:
            raise ValueError(f"a file, where a directory named `{column}=VALUE` was expected")
        return parse_directory(name, column, _type_of(self.source, column))

    def misplaced(self, files: Iterable[InputFile], depth: int) -> list[str]:
        """What does not fit in the paths of files, from the level `depth` on: a sentence for each directory at fault."""
        seen: dict[tuple[str, PartitionValue], str] = {}
        first: dict[str, InputFile] = {}
        for file in files:
            first.setdefault(file.path.rpartition("/")[0], file)
        problems = (self._misplaced(folder, file, depth, seen) for folder, file in first.items())
        return list(dict.fromkeys(problem for problem in problems if problem))

    def _misplaced(self, folder: str, file: InputFile, depth: int, seen: dict[tuple[str, PartitionValue], str]) -> str:
        columns = list(self.source.partitions)
        parts = folder.split("/") if folder else []
        for level in range(depth, len(parts)):
            above, path = "/".join(parts[:level]), "/".join(parts[: level + 1])
            if level >= len(columns):
                if "=" in parts[level]:
                    return f"{self.uri(path)}: a partition level that `partitions` does not declare."
                if not _is_utf8(parts[level]):
                    return f"{self.uri(path)}: the name is not UTF-8."
                continue
            try:
                value = self.value(parts[level], level)
            except ValueError as error:
                return f"{self.uri(path)}: {error}."
            other = seen.setdefault((above, value), parts[level])
            if other != parts[level]:
                return self.twice(above, columns[level], (other, parts[level]))
        if len(parts) < len(columns):
            return f"{self.uri(file.path)}: a file, where a directory named `{columns[len(parts)]}=VALUE` was expected."
        return ""

    def twice(self, above: str, column: str, names: tuple[str, ...]) -> str:
        """The sentence for directories that mean one value."""
        paths = " and ".join(self.uri(below(above, name)) for name in names)
        return f"{paths} mean the same value of `{column}`."


def read_manifest(
    name: str,
    tree: Tree,
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
        The interval's column. The ready marker is expected in its directories, or in those of the last column whose
        `select` names the interval.
    only
        Values that alone can matter; other directories are not listed. Whether one is missing does not depend on it.
    waited_s
        How long it was waited for, for the message.

    Returns
    -------
    The input (None when the source says `on_missing: skip` and something is missing), and the errors: FS4001 or FS4002 for
    each directory that is not ready, FS4005 for each that does not fit the source's partitions, FS4003 for a file's name.
    """
    source, located = tree.source, tree.located
    walk = _Walk(name, tree, slot, where, only or {}, f" after {duration(waited_s)}" if waited_s else "")
    ready = _ready_depth(source, ready_column)
    narrowed = max(
        (depth for depth, column in enumerate(source.partitions, start=1) if column in walk.narrowing), default=0
    )
    heads = walk.marked(walk.root()) if ready == 0 else walk.root()
    for depth in range(narrowed):
        heads = walk.descend(heads, depth)
        if depth + 1 == ready:
            heads = walk.marked(heads)
    if walk.errors or (walk.missing and source.on_missing == "skip"):
        return None, walk.errors
    seen = _scan(located.storage, located.path, tuple(heads))
    files = _data_files(seen, marker_of(source))
    walk.misfits(tree.misplaced(files, narrowed))
    walk.finished(seen, files)
    walk.named(files)
    return (None if walk.errors else SourceInput(name, tuple(heads), files)), walk.errors


def list_files(storage: Storage, root: str, directories: tuple[str, ...], marker: str = "") -> tuple[InputFile, ...]:
    """The data files in `directories` below `root`, sorted by path. A directory that is not there holds none.

    Parameters
    ----------
    marker
        The name of files that are no data, whatever else: the ready marker's.
    """
    return _data_files(_scan(storage, root, directories), marker)


def marker_of(source: Source) -> str:
    """The name of the files that only say that a directory is ready; "" where there are none, or where they are data."""
    marker = source.ready.marker if source.ready else ""
    return "" if marker.endswith(".parquet") else marker


def _scan(storage: Storage, root: str, directories: tuple[str, ...]) -> tuple[InputFile, ...]:
    """All files in `directories`, sorted by path: hidden ones and unfinished ones, too."""
    files = [
        InputFile(status.path[len(root) :].lstrip("/"), status.length, status.modified_ms)
        for status in storage.scan([join(root, directory) for directory in directories])
    ]
    return tuple(sorted(files, key=lambda file: file.path))


def _data_files(files: Iterable[InputFile], marker: str) -> tuple[InputFile, ...]:
    return tuple(file for file in files if is_data(file.path) and file.path.rpartition("/")[2] != marker)


def _is_utf8(name: str) -> bool:
    """Whether a name has bytes that are text; others come as lone surrogates."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def _is_unfinished(path: str) -> bool:
    """Whether a file is one that a writer is at: hidden by its ending, or in Spark's folder of running tasks."""
    hidden_by_ending = not is_data(path) and is_data(f"{path}-")
    return hidden_by_ending or "_temporary" in path.split("/")


def _folders(path: str) -> list[str]:
    """The directories that a file is in, from the root on."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:level]) for level in range(len(parts) + 1)]


def _ready_depth(source: Source, ready_column: str) -> int:
    """How many partition levels one interval names: its readiness is looked for below the last of them."""
    depths = [
        depth
        for depth, column in enumerate(source.partitions, start=1)
        if column in source.select and (column == ready_column or _names_interval(source.select[column]))
    ]
    return max(depths, default=0)


def _names_interval(select: Select) -> bool:
    texts = (select.from_, select.to) if isinstance(select, Range) else (select,) if isinstance(select, str) else select
    return any("${interval." in str(text) for text in texts)


class _Walk:
    """From the root to the directories that one interval reads, level by level."""

    def __init__(self, name: str, tree: Tree, slot: Slot, where: Where, only: Only, after: str) -> None:
        source = tree.source
        self.name, self.tree, self.slot, self.after = name, tree, slot, after
        self.columns = list(source.partitions)
        self.wanted = {
            column: list(dict.fromkeys(_selected(source, column, select, slot, where)))
            for column, select in source.select.items()
        }
        self.days = {column: _days(source, column, select, slot) for column, select in source.select.items()}
        typed = {column: _typed(source, column, texts) for column, texts in only.items()}
        self.only = {column: values for column, values in typed.items() if values is not None}
        self.narrowing = self.wanted.keys() | self.only.keys()
        self.errors: list[FiresteelError] = []
        self.missing = False

    def root(self) -> list[str]:
        """The source's own directory, if it is there and one of plain files."""
        root = self.tree.root()
        if root.problem:
            self.misfits([root.problem], root.hint)
        elif not root.is_there:
            self._missing("")
        return [""] if root.is_there and not root.problem else []

    def descend(self, heads: list[str], depth: int) -> list[str]:
        """The directories of the next level that are read."""
        column = self.columns[depth]
        named_below = any(each in self.wanted for each in self.columns[depth + 1 :])
        found = []
        for head in heads:
            branches = self.tree.branches(head, depth)
            self.misfits(branches.problems)
            self.misfits(self._within_days(head, column, branches))
            if column not in self.wanted and not branches.names and named_below:
                self._missing(below(head, f"{column}=..."))
            for value in self.wanted.get(column, branches.names):
                names = branches.names.get(value, ())
                if not names:
                    self._missing(below(head, partition_name(column, value_text(value))))
                elif column in self.only and value not in self.only[column]:
                    continue
                elif len(names) > 1:
                    self.misfits([self.tree.twice(head, column, names)])
                else:
                    found.append(below(head, names[0]))
        return found

    def _within_days(self, head: str, column: str, branches: Branches) -> list[str]:
        """Timestamps of a day that is selected as a whole, and that is not at midnight: `2024-01-01` would leave them out."""
        days = self.days.get(column, frozenset())
        inside = [
            names[0]
            for value, names in branches.names.items()
            if isinstance(value, datetime) and value.time() != time() and value.date() in days
        ]
        return [
            f"{self.tree.uri(below(head, name))} lies within a selected day, and is not selected" for name in inside[:1]
        ]

    def marked(self, heads: list[str]) -> list[str]:
        """The directories that carry the ready marker; FS4001 for the others."""
        source, located = self.tree.source, self.tree.located
        if source.ready is None:
            return heads
        ready = []
        for head in heads:
            path = join(located.path, head)
            if located.storage.status(join(path, source.ready.marker)) is not None:
                ready.append(head)
                continue
            found = len(list_files(located.storage, located.path, (head,), marker_of(source)))
            self.errors.append(
                InputNotReady(
                    "FS4001",
                    f"{self.name} {head or self.slot.id}: {source.ready.marker} is missing{self.after} "
                    f"({found} files present). Nothing was read.",
                    hint="Safe to retry.",
                )
            )
        return ready

    def finished(self, seen: Iterable[InputFile], files: Iterable[InputFile]) -> None:
        """FS4001 for directories with an unfinished file and no data, unless a marker says that they are ready."""
        if self.tree.source.ready is not None:
            return
        begun: dict[str, str] = {}
        for file in seen:
            if _is_unfinished(file.path):
                levels = _folders(file.path)[: len(self.columns) + 1]
                begun.setdefault(
                    next(folder for folder in reversed(levels) if not folder or is_data(folder)), file.path
                )
        full = {folder for file in files for folder in _folders(file.path)} if begun else set[str]()
        self.errors += [
            InputNotReady(
                "FS4001",
                f"{self.name} {folder or self.slot.id}: {self.tree.uri(path)} is not finished{self.after}, and no other "
                "file is there. Nothing was read.",
                hint="Safe to retry once it is; delete it if its writer is gone.",
            )
            for folder, path in begun.items()
            if folder not in full
        ]

    def named(self, files: Iterable[InputFile]) -> None:
        """FS4003 for files whose names are not text."""
        self.errors += [
            InputNotReady(
                "FS4003",
                f"{self.name}: {self.tree.uri(file.path)} has a name that is not UTF-8, which Spark cannot open.",
                hint="Rename the file.",
            )
            for file in files
            if not _is_utf8(file.path.rpartition("/")[2])
        ]

    def misfits(self, problems: Iterable[str], hint: str = _MOVE) -> None:
        """FS4005 for each."""
        self.errors += [InputNotReady("FS4005", f"{self.name}: {problem}", hint=hint) for problem in problems]

    def _missing(self, path: str) -> None:
        self.missing = True
        if self.tree.source.on_missing == "fail":
            self.errors.append(
                InputNotReady(
                    "FS4002",
                    f"{self.name} {self.slot.id}: {self.tree.uri(path)} is missing{self.after}. Nothing was read.",
                    hint="Safe to retry once it is there; or set on_missing: skip | empty.",
                )
            )


def _typed(source: Source, column: str, texts: Iterable[str]) -> frozenset[PartitionValue] | None:
    """The values of SQL conditions; None, so that nothing is pruned, where one of them is not of the column's type."""
    kind = _type_of(source, column)
    try:
        return frozenset(parse_value(text, kind) for text in texts)
    except ValueError:
        return None
