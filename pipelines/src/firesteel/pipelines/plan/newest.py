"""`select: latest`: the newest partition at or before an interval.

A partition covers a period, such as a day. The newest partition is the one whose period ends last, but not after the interval.
So an interval never reads data that is later than itself, also in a backfill.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from firesteel.conf.partitions import PartitionValue, value_text
from firesteel.pipelines.spec.date_formats import period, unit_of_formats

T = TypeVar("T")

_ALWAYS = (datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59))  # noqa: DTZ001 - local time


class Branches(Protocol):
    """The partition directories in one directory."""

    @property
    def names(self) -> Mapping[PartitionValue, tuple[str, ...]]:
        """Return value -> names."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a sentence for each directory that does not match the partitions."""


class Levels(Protocol):
    """The partition directories of a source."""

    def branches(self, path: str, depth: int) -> Branches:
        """Return the directories in `path`, with values of the column at `depth`."""

    def uri(self, path: str) -> str:
        """Return the URI of a directory."""

    def once(self, key: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """Return a value that is computed once for all intervals."""


@dataclass(frozen=True, slots=True)
class Newest:
    """A partition: its values, one of its directories, and the local time at which its period ends."""

    values: Mapping[str, PartitionValue]
    directory: str
    end: datetime


def newest_values(formats: Mapping[str, str], end: datetime) -> dict[str, str]:
    """Return column -> value of the newest partition that can exist for an interval with the local end `end`."""
    moment = timedelta(seconds=1)
    opens, closes = period({format_: (end - moment).strftime(format_) for format_ in formats.values()})
    at = (opens if closes > end else end) - moment
    return {column: at.strftime(format_) for column, format_ in formats.items()}


@dataclass(frozen=True, slots=True)
class _Level:
    """The directories of one level: with periods in the order of time, or else all that are read."""

    starts: tuple[datetime, ...] = ()
    ends: tuple[datetime, ...] = ()
    values: tuple[tuple[PartitionValue, tuple[str, ...]], ...] = ()
    problems: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


@dataclass(slots=True)
class NewestSearch:
    """Searches the newest partition, from the newest year, month and day on.

    Attributes
    ----------
    columns
        All partition columns, in the order of the directories.
    formats
        The columns that hold the period -> format.
    selected
        The values that are read of other columns; all if a column is missing.
    problems
        Output: a sentence for each directory that does not match the partitions or their formats.
    """

    levels: Levels
    columns: tuple[str, ...]
    formats: Mapping[str, str]
    selected: Mapping[str, frozenset[PartitionValue]]
    problems: dict[str, None] = field(default_factory=dict)

    def before(self, end: datetime | None) -> Newest | None:
        """Return the newest partition whose period ends at or before `end`; the newest of all if `end` is None."""
        return self._below(("",), 0, {}, end)

    def _below(
        self, heads: Sequence[str], depth: int, known: Mapping[str, PartitionValue], end: datetime | None
    ) -> Newest | None:
        level = self.levels.once(("newest", depth, *known.values()), lambda: self._level(heads, depth, known))
        self.problems |= dict.fromkeys(level.problems)
        column = self.columns[depth]
        if column not in self.formats:
            return self._below(level.directories, depth + 1, known, end) if level.directories else None
        if len(known) + 1 == len(self.formats):
            count = len(level.ends) if end is None else bisect_right(level.ends, end)
            if not count:
                return None
            value, directories = level.values[count - 1]
            return Newest({**known, column: value}, directories[0], level.ends[count - 1])
        best: Newest | None = None
        count = len(level.starts) if end is None else bisect_left(level.starts, end)
        for number in reversed(range(count)):
            value, directories = level.values[number]
            found = self._below(directories, depth + 1, {**known, column: value}, end)
            if found is not None and level.ends[number] < _ALWAYS[1]:
                return found
            best = max((item for item in (best, found) if item), key=lambda item: item.end, default=None)
        return best

    def _level(self, heads: Sequence[str], depth: int, known: Mapping[str, PartitionValue]) -> _Level:
        column = self.columns[depth]
        groups: dict[PartitionValue, list[str]] = {}
        problems: list[str] = []
        for head in heads:
            branches = self.levels.branches(head, depth)
            problems += branches.problems
            for value, names in branches.names.items():
                groups.setdefault(value, []).extend(f"{head}/{name}".lstrip("/") for name in names)
        if column not in self.formats:
            wanted = self.selected.get(column)
            kept = [path for value, paths in groups.items() if wanted is None or value in wanted for path in paths]
            return _Level(problems=tuple(problems), directories=tuple(kept))
        periods = []
        for value, paths in groups.items():
            if value is None:  # rows without a date
                continue
            try:
                periods.append((*self._period({**known, column: value}), (value, tuple(paths))))
            except ValueError as error:
                problems.append(f"{self.levels.uri(paths[0])}: {error}.")
        periods.sort(key=lambda item: item[:2])
        starts, ends, values = zip(*periods, strict=True) if periods else ((), (), ())
        return _Level(starts, ends, values, tuple(problems))

    def _period(self, values: Mapping[str, PartitionValue]) -> tuple[datetime, datetime]:
        """Return the period of the values of the first columns; all of time if they name none."""
        texts = {self.formats[column]: value_text(value) for column, value in values.items()}
        if unit_of_formats(list(texts)) is None:
            return _ALWAYS
        return period(texts)
