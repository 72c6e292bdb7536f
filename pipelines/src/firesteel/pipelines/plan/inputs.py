"""The input manifest: the directories that one interval reads from a source, whether they are ready, and their files.

The values in `select` and in the directories' names are compared as typed values at every partition level. A selected value without
a directory is missing. A directory in the selected range that does not match the spec is an error. A source without partitions is one
directory, which every interval reads.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any, TypeVar

from firesteel.conf.errors import FiresteelError, InputNotReady, StorageError, Where
from firesteel.conf.partitions import (
    PartitionValue,
    is_data,
    is_selectable,
    parse_directory,
    parse_value,
    partition_name,
    value_text,
)
from firesteel.conf.quantities import age, duration, plural
from firesteel.pipelines.plan.choices import Choice, choices, type_of
from firesteel.pipelines.plan.intervals import Slot, formatted_rows, names_interval, selected_values
from firesteel.pipelines.plan.model import InputFile, SourceInput
from firesteel.pipelines.plan.newest import NewestSearch, newest_values
from firesteel.pipelines.spec.model import Latest, Range, Select, Source
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join

T = TypeVar("T")

_MOVE = "Rename or move it; names that start with `.` or `_` are not read."
_DECLARE = (
    'Declare the directories: `partitions: {COLUMN: TYPE}` for `COLUMN=VALUE`, or `partitions: "%Y/%m/%d"` for dates. Or move '
    "them out of the folder."
)
_PLAIN = "Export its current rows to plain files and use that directory; its files may contain deleted rows."
_UNION = re.compile(r"HIVE_UNION_SUBDIR_\d+")
"""Directories that Hive's UNION ALL writes into a table."""
_LOGS = {"_delta_log": "a Delta table", "_spark_metadata": "the output of a Spark stream", ".hoodie": "a Hudi table"}
"""The log in a table's root -> the table's format."""


@dataclass(frozen=True, slots=True)
class Located:
    """A source's storage, and its path in that storage."""

    storage: Storage
    path: str


Only = Mapping[str, tuple[str, ...]]
"""Partition column -> the only values that can affect the result (rules/prune_partitions)."""


def selected(source: Source, slot: Slot, where: Where) -> dict[str, tuple[str, ...]]:
    """Return the partition values that `slot` reads, by column, for the columns in `select` without `latest`.

    Values are in Spark's format for directory names: `05` of an int partition is `5`.

    Raises
    ------
    SpecError
        FS1004 when a value is not of its partition's type.
    """
    return {
        column: tuple(dict.fromkeys(value_text(row[choice.columns.index(column)]) for row in choice.rows))
        for column, choice in choices(source, slot, where).items()
    }


def latest_formats(source: Source) -> dict[str, str]:
    """Return column -> format of the columns with `latest`."""
    selects = {column: source.select.get(column) for column in source.levels}
    return {column: select.format for column, select in selects.items() if isinstance(select, Latest)}


def own_directory(source: Source, slot: Slot) -> str:
    """Return the last directory of an interval for a source with directories without `column=`."""
    if formats := latest_formats(source):
        return "/".join(newest_values(formats, slot.end.replace(tzinfo=None)).values())
    own = [select.format for select in source.select.values() if not isinstance(select, str | tuple)]
    return "/".join(formatted_rows([text or "" for text in own], slot)[-1])


def below(folder: str, name: str) -> str:
    """Return a path relative to the source's root; `folder` is "" for the root."""
    return f"{folder}/{name}" if folder else name


@dataclass(frozen=True, slots=True)
class Root:
    """The state of a source's path: missing, not plain files (a sentence and a hint), or a directory of plain files."""

    is_there: bool = True
    problem: str = ""
    hint: str = ""


def _days(source: Source, column: str, select: Select, slot: Slot) -> frozenset[PartitionValue]:
    """Return the days that `select` names without a time of day, for a timestamp partition."""
    if isinstance(select, Latest) or not type_of(source, column).startswith("timestamp"):
        return frozenset()
    return frozenset(parse_value(text, "date") for text in selected_values(select, slot) if _is_day(text))


def _is_day(text: str) -> bool:
    return ":" not in text and is_selectable(text, "date")


@dataclass(frozen=True, slots=True)
class Branches:
    """The partition directories in one directory: value -> names, and the problems (one sentence each)."""

    names: Mapping[PartitionValue, tuple[str, ...]]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """The partition directories of one source. Each is listed once for all intervals. Thread-safe."""

    source: Source
    located: Located
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _results: dict[tuple[Any, ...], Future[Any]] = field(default_factory=dict)

    def uri(self, path: str) -> str:
        """Return the URI of a path relative to the source's root, for messages."""
        shown = path if _is_utf8(path) else ascii(path)[1:-1]
        return f"{self.located.storage.base_uri}{join(self.located.path, shown)}"

    def root(self) -> Root:
        """Return the state of the source's own directory."""
        return self.once(("", -1), self._check_root)

    def branches(self, path: str, depth: int) -> Branches:
        """Return the directories in `path`, with values of the column at `depth`; none if `path` is missing."""
        return self.once((path, depth), lambda: self._list(path, depth))

    def once(self, key: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """Return a value that is computed once for all intervals."""
        with self._lock:
            known = self._results.get(key)
            result: Future[T] = known or self._results.setdefault(key, Future())
        if known is None:
            try:
                result.set_result(compute())
            except BaseException as error:
                result.set_exception(error)
                raise
        return result.result()

    def _check_root(self) -> Root:
        status = self.located.storage.status(self.located.path)
        if status is None:
            return Root(is_there=False)
        if not status.is_dir:
            return Root(problem=f"{self.uri('')} is a file.", hint="Use its directory.")
        other = self._other_format()
        return (
            Root(problem=f"{self.uri('')} is {other}, not a directory of data files.", hint=_PLAIN) if other else Root()
        )

    def _other_format(self) -> str:
        """Return the format of a table with a log of its valid files; "" for plain files."""
        storage, path = self.located.storage, self.located.path
        for name, kind in _LOGS.items():
            if storage.status(join(path, name)) is not None:
                return kind
        metadata = storage.status(join(path, "metadata"))
        inside = storage.list(metadata.path) if metadata is not None and metadata.is_dir else []
        iceberg = any(file.name == "version-hint.text" or file.name.endswith(".metadata.json") for file in inside)
        return "an Iceberg table" if iceberg else ""

    def _list(self, path: str, depth: int) -> Branches:
        try:
            children = self.located.storage.list(join(self.located.path, path))
        except StorageError as error:
            if error.code != "FS8003":
                raise
            return Branches({}, ())
        is_selected = list(self.source.levels)[depth] in self.source.select
        has_keys = self.source.layout is None
        marker = marker_of(self.source)
        names: dict[PartitionValue, tuple[str, ...]] = {}
        problems = []
        for child in children:
            is_marker = child.name == marker and not child.is_dir
            if not is_data(child.name) or is_marker or (is_selected and has_keys and "=" not in child.name):
                continue
            try:
                value = self.value(child.name, depth, is_dir=child.is_dir)
            except ValueError as error:
                if has_keys:
                    problems.append(f"{self.uri(below(path, child.name))}: {error}.")
            else:
                names[value] = (*names.get(value, ()), child.name)
        return Branches(names, tuple(problems))

    def value(self, name: str, depth: int, *, is_dir: bool = True) -> PartitionValue:
        """Return the value of a directory at a level. Raise ValueError, with a phrase, when it has none."""
        column = list(self.source.levels)[depth]
        if not _is_utf8(name):
            raise ValueError("the name is not UTF-8")
        if not is_dir:
            raise ValueError(f"found a file, expected a directory named `{column}=VALUE`")
        if self.source.layout is not None:
            return parse_value(name, type_of(self.source, column))
        return parse_directory(name, column, type_of(self.source, column))

    def misplaced(self, files: Iterable[InputFile], depth: int) -> list[str]:
        """Return a sentence for each directory, from the level `depth` on, that does not match the partitions."""
        names: dict[tuple[str, PartitionValue], str] = {}
        first: dict[str, InputFile] = {}
        for file in files:
            first.setdefault(file.path.rpartition("/")[0], file)
        problems = (self._misplaced(folder, file, depth, names) for folder, file in first.items())
        return list(dict.fromkeys(problem for problem in problems if problem))

    def _misplaced(self, folder: str, file: InputFile, depth: int, names: dict[tuple[str, PartitionValue], str]) -> str:
        columns = list(self.source.levels)
        parts = folder.split("/") if folder else []
        for level in range(depth, len(parts)):
            above, path = "/".join(parts[:level]), "/".join(parts[: level + 1])
            if level >= len(columns):
                if "=" in parts[level]:
                    return f"{self.uri(path)} is a partition level that is not in `partitions`."
                if not columns and not _UNION.fullmatch(parts[level]):
                    return f"{self.uri(path)} is a directory, and the source has no `partitions`."
                if not _is_utf8(parts[level]):
                    return f"{self.uri(path)}: the name is not UTF-8."
                continue
            try:
                value = self.value(parts[level], level)
            except ValueError as error:
                return f"{self.uri(path)}: {error}."
            other = names.setdefault((above, value), parts[level])
            if other != parts[level]:
                return self.duplicates(above, columns[level], (other, parts[level]))
        if len(parts) < len(columns):
            return f"{self.uri(file.path)}: found a file, expected a directory named `{columns[len(parts)]}=VALUE`."
        return ""

    def duplicates(self, above: str, column: str, names: tuple[str, ...]) -> str:
        """Return the sentence for directories with the same value."""
        paths = " and ".join(self.uri(below(above, name)) for name in names)
        return f"{paths} have the same value{'' if self.source.layout else f' of `{column}`'}."

    def name_of(self, column: str, value: PartitionValue) -> str:
        """Return the name of the directory with a value, for messages."""
        text = value_text(value)
        return text if self.source.layout else partition_name(column, text)

    def scan(self, heads: tuple[str, ...]) -> tuple[InputFile, ...]:
        """Return all files in some directories of equal depth, sorted by path. Directories that several intervals read are listed once."""
        if not self._is_shared:
            return _scan(self.located.storage, self.located.path, heads)
        keys = {head: ("files", head) for head in heads}
        with self._lock:
            mine = [head for head, key in keys.items() if key not in self._results]
            self._results.update((keys[head], Future()) for head in mine)
            results = [self._results[key] for key in keys.values()]
        try:
            if mine:
                depth = len(mine[0].split("/")) if mine[0] else 0
                files: dict[str, list[InputFile]] = {head: [] for head in mine}
                for file in _scan(self.located.storage, self.located.path, tuple(mine)):
                    files["/".join(file.path.split("/")[:depth])].append(file)
                for head in mine:
                    self._results[keys[head]].set_result(tuple(files[head]))
        except BaseException as error:
            for head in mine:
                self._results[keys[head]].set_exception(error)
            raise
        return tuple(sorted((file for result in results for file in result.result()), key=lambda file: file.path))

    def has_marker(self, head: str, marker: str) -> bool:
        """Return whether a directory has a ready marker."""
        path = join(join(self.located.path, head), marker)
        if not self._is_shared:
            return self.located.storage.status(path) is not None
        return self.once(("marker", head), lambda: self.located.storage.status(path) is not None)

    @property
    def _is_shared(self) -> bool:
        """Return whether several intervals may read the same directory."""
        selects = self.source.select.values()
        return any(isinstance(select, Range | Latest) for select in selects) or not any(map(names_interval, selects))


def read_manifest(
    name: str,
    tree: Tree,
    slot: Slot,
    *,
    ready_column: str | None,
    where: Where,
    only: Only | None = None,
    waited_s: float = 0.0,
) -> tuple[SourceInput | None, list[FiresteelError]]:
    """Return the files that `slot` reads from a source.

    Parameters
    ----------
    ready_column
        The interval's column. The ready marker is expected in its directories, or in those of the last column whose
        `select` uses the interval.
    only
        The only values that can affect the result; other directories are checked for existence but not listed.
    waited_s
        Seconds waited so far, for the message.

    Returns
    -------
    The input (None when a partition is missing and the source has `on_missing: skip`), and the errors: FS4001 or FS4002 for each
    directory that is not ready, FS4005 for each that does not match the source's partitions, FS4003 for a file's name.
    """
    source = tree.source
    walk = _Walk(name, tree, slot, where, only or {}, f" after {duration(waited_s)}" if waited_s else "")
    ready = _ready_depth(source, ready_column)
    narrowed = max(
        (depth for depth, column in enumerate(source.levels, start=1) if column in walk.narrowing), default=0
    )
    heads = walk.marked(walk.root()) if ready == 0 else walk.root()
    if heads and walk.latest:
        heads = walk.choose_newest(heads)
    for depth in range(narrowed):
        heads = walk.descend(heads, depth)
        if depth + 1 == ready:
            heads = walk.marked(heads)
    walk.check_needed()
    if walk.errors or (walk.missing and source.on_missing == "skip"):
        return None, walk.errors
    all_files = tree.scan(tuple(heads))
    files = _data_files(all_files, marker_of(source))
    walk.mismatches(tree.misplaced(files, narrowed), _MOVE if source.levels else _DECLARE)
    walk.check_finished(all_files, files)
    walk.check_names(files)
    if not files and heads and not walk.errors:
        walk.check_not_empty(heads)
    if walk.missing and source.on_missing == "skip":
        return None, walk.errors
    return (None if walk.errors else SourceInput(name, tuple(heads), files)), walk.errors


def list_files(storage: Storage, root: str, directories: tuple[str, ...], marker: str = "") -> tuple[InputFile, ...]:
    """Return the data files in `directories` of `root`, sorted by path. A missing directory has none.

    Parameters
    ----------
    marker
        The name of ready markers, which are not data.
    """
    return _data_files(_scan(storage, root, directories), marker)


def marker_of(source: Source) -> str:
    """Return the name of ready markers; "" if there are none, or if they are data files."""
    marker = source.ready.marker if source.ready else ""
    return "" if marker.endswith(".parquet") else marker


def _scan(storage: Storage, root: str, directories: tuple[str, ...]) -> tuple[InputFile, ...]:
    """Return all files in `directories`, including hidden and unfinished ones, sorted by path."""
    files = [
        InputFile(status.path[len(root) :].lstrip("/"), status.length, status.modified_ms)
        for status in storage.scan([join(root, directory) for directory in directories])
    ]
    return tuple(sorted(files, key=lambda file: file.path))


def _data_files(files: Iterable[InputFile], marker: str) -> tuple[InputFile, ...]:
    return tuple(file for file in files if is_data(file.path) and file.path.rpartition("/")[2] != marker)


def _is_utf8(name: str) -> bool:
    """Return whether a name is UTF-8; bytes that are not appear as lone surrogates."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def _is_unfinished(path: str) -> bool:
    """Return whether a file is being written: hidden by its suffix, or in Spark's folder of running tasks."""
    hidden_by_suffix = not is_data(path) and is_data(f"{path}-")
    return hidden_by_suffix or "_temporary" in path.split("/")


def _folders(path: str) -> list[str]:
    """Return the directories of a file, from the root on."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:level]) for level in range(len(parts) + 1)]


def _ready_depth(source: Source, ready_column: str | None) -> int:
    """Return the number of the last partition level that depends on the interval, where readiness is checked."""
    depths = [
        depth
        for depth, column in enumerate(source.levels, start=1)
        if column in source.select and (column == ready_column or names_interval(source.select[column]))
    ]
    return max(depths, default=0)


class _Walk:
    """Finds the directories that one interval reads, level by level from the root."""

    def __init__(self, name: str, tree: Tree, slot: Slot, where: Where, only: Only, after: str) -> None:
        source = tree.source
        self.name, self.tree, self.slot, self.after = name, tree, slot, after
        self.columns = list(source.levels)
        self.chosen = choices(source, slot, where)
        self.latest = latest_formats(source)
        self.known: dict[str, dict[str, PartitionValue]] = {"": {}}
        self.days = {column: _days(source, column, select, slot) for column, select in source.select.items()}
        typed = {column: _typed(source, column, texts) for column, texts in only.items()}
        self.only = {column: values for column, values in typed.items() if values is not None}
        self.narrowing = self.chosen.keys() | self.latest.keys() | self.only.keys()
        self.errors: list[FiresteelError] = []
        self.missing = False

    def root(self) -> list[str]:
        """Return the source's own directory, if it exists and has plain files."""
        root = self.tree.root()
        if root.problem:
            self.mismatches([root.problem], root.hint)
        elif not root.is_there:
            self._missing("")
        return [""] if root.is_there and not root.problem else []

    def choose_newest(self, heads: list[str]) -> list[str]:
        """Select the newest partition at or before the interval. Return `heads`, or no directory if there is none."""
        source = self.tree.source
        fixed = {
            column: frozenset(row[choice.columns.index(column)] for row in choice.rows)
            for column, choice in self.chosen.items()
            if not names_interval(source.select[column])
        }
        search = NewestSearch(self.tree, tuple(self.columns), self.latest, fixed)
        end = self.slot.end.replace(tzinfo=None)
        newest = search.before(end)
        later = None if newest else search.before(None)
        self.mismatches(search.problems)
        too_old = (
            newest is not None and source.max_age is not None and end - newest.end > timedelta(seconds=source.max_age)
        )
        if newest is not None and not too_old:
            columns = tuple(column for column in self.columns if column in self.latest)
            choice = Choice(columns, (tuple(newest.values[column] for column in columns),))
            self.chosen |= dict.fromkeys(columns, choice)
            return heads
        limit = f" and within max_age ({age(source.max_age)})" if source.max_age is not None else ""
        if newest is not None:
            state = f"The newest is {self.tree.uri(newest.directory)}, {age((end - newest.end).total_seconds())} before its end."
        elif later is not None:
            state = f"The newest of all is {self.tree.uri(later.directory)}, which ends after the interval."
        else:
            state = f"{self.tree.uri('')} has no partition."
        self._missing_input(
            "FS4007",
            f"no partition at or before the interval{limit}{self.after}. {state}",
            "Write the partition, raise `max_age`, or set on_missing: skip | empty.",
        )
        return []

    def descend(self, heads: list[str], depth: int) -> list[str]:
        """Return the directories of the next level that the interval reads."""
        column = self.columns[depth]
        choice = self.chosen.get(column)
        selected_below = any(name in self.chosen for name in self.columns[depth + 1 :])
        directories = []
        for head in heads:
            branches, known = self.tree.branches(head, depth), self.known[head]
            self.mismatches(branches.problems)
            self.mismatches(self._within_days(head, column, branches))
            if choice is None and not branches.names and selected_below:
                self._missing(below(head, f"{column}=..."))
            for value in branches.names if choice is None else choice.values(column, known):
                names = branches.names.get(value, ())
                if not names:
                    if choice is None or choice.needed is None:
                        self._missing(below(head, self.tree.name_of(column, value)))
                    continue
                if choice is not None:
                    choice.add(column, known, value)
                if column in self.only and value not in self.only[column]:
                    continue
                if len(names) > 1:
                    self.mismatches([self.tree.duplicates(head, column, names)])
                else:
                    directory = below(head, names[0])
                    self.known[directory] = {**known, column: value}
                    directories.append(directory)
        return directories

    def check_needed(self) -> None:
        """Add FS4002 for each range with fewer partitions than `at_least`."""
        for column, choice in self.chosen.items():
            if choice.needed is None or column != choice.columns[0] or len(choice.found) >= choice.needed:
                continue
            missing = next((row for row in reversed(choice.rows) if row not in choice.found), None)
            names = [] if missing is None else map(self.tree.name_of, choice.columns, missing)
            example = f", for example {'/'.join(names)} is missing" if missing else ""
            self._missing_input(
                "FS4002",
                f"{len(choice.found)} of the {len(choice.rows)} partitions in the range exist, expected at least "
                f"{choice.needed}{example}{self.after}.",
                "Retry when more exist, or lower `at_least`.",
            )

    def check_not_empty(self, heads: list[str]) -> None:
        """Treat a folder without partitions, or the newest partition, as missing if it has no files and no ready marker."""
        if self.tree.source.ready is None and (self.latest or not self.columns):
            self._missing_input(
                "FS4002",
                f"{self.tree.uri(heads[0])} has no files{self.after}.",
                "Retry when the files exist, delete the directory, or set on_missing: skip | empty.",
            )

    def _within_days(self, head: str, column: str, branches: Branches) -> list[str]:
        """Return a sentence for a directory within a selected day: `2024-01-01` selects only midnight of a timestamp partition."""
        days = self.days.get(column, frozenset())
        inside = [
            names[0]
            for value, names in branches.names.items()
            if isinstance(value, datetime) and value.time() != time() and value.date() in days
        ]
        return [
            f"{self.tree.uri(below(head, name))} is within a selected day but is not selected" for name in inside[:1]
        ]

    def marked(self, heads: list[str]) -> list[str]:
        """Return the directories with the ready marker; add FS4001 for the others."""
        source, located = self.tree.source, self.tree.located
        if source.ready is None:
            return heads
        ready = []
        for head in heads:
            if self.tree.has_marker(head, source.ready.marker):
                ready.append(head)
                continue
            present = len(list_files(located.storage, located.path, (head,), marker_of(source)))
            self.errors.append(
                InputNotReady(
                    "FS4001",
                    f"{self.name} {head or self.slot.id}: {source.ready.marker} is missing{self.after} "
                    f"({plural(present, 'file')} present). Nothing was read.",
                    hint="Retry later; a retry is safe.",
                )
            )
        return ready

    def check_finished(self, all_files: Iterable[InputFile], files: Iterable[InputFile]) -> None:
        """Add FS4001 for directories with an unfinished file and no data, unless the source has a ready marker."""
        if self.tree.source.ready is not None:
            return
        unfinished: dict[str, str] = {}
        for file in all_files:
            if _is_unfinished(file.path):
                levels = _folders(file.path)[: len(self.columns) + 1]
                unfinished.setdefault(
                    next(folder for folder in reversed(levels) if not folder or is_data(folder)), file.path
                )
        with_data = {folder for file in files for folder in _folders(file.path)} if unfinished else set[str]()
        self.errors += [
            InputNotReady(
                "FS4001",
                f"{self.name} {folder or self.slot.id}: {self.tree.uri(path)} is not finished{self.after}, and the directory "
                "has no other file. Nothing was read.",
                hint="Retry when the file is finished, or delete it if its writer failed.",
            )
            for folder, path in unfinished.items()
            if folder not in with_data
        ]

    def check_names(self, files: Iterable[InputFile]) -> None:
        """Add FS4003 for files whose names are not UTF-8."""
        self.errors += [
            InputNotReady(
                "FS4003",
                f"{self.name}: {self.tree.uri(file.path)} has a name that is not UTF-8; Spark cannot open it.",
                hint="Rename the file.",
            )
            for file in files
            if not _is_utf8(file.path.rpartition("/")[2])
        ]

    def mismatches(self, problems: Iterable[str], hint: str = _MOVE) -> None:
        """Add FS4005 for each problem."""
        self.errors += [InputNotReady("FS4005", f"{self.name}: {problem}", hint=hint) for problem in problems]

    def _missing(self, path: str) -> None:
        self._missing_input(
            "FS4002",
            f"{self.tree.uri(path)} is missing{self.after}.",
            "Retry when it exists, or set on_missing: skip | empty.",
        )

    def _missing_input(self, code: str, problem: str, hint: str) -> None:
        """Note missing input, with an error if the source has `on_missing: fail`."""
        self.missing = True
        if self.tree.source.on_missing == "fail":
            what = f"{self.name} {self.slot.id}: {problem} Nothing was read."
            self.errors.append(InputNotReady(code, what, hint=hint))


def _typed(source: Source, column: str, texts: Iterable[str]) -> frozenset[PartitionValue] | None:
    """Return the typed values of SQL conditions; None (no pruning) if one is not of the column's type."""
    kind = type_of(source, column)
    try:
        return frozenset(parse_value(text, kind) for text in texts)
    except ValueError:
        return None
