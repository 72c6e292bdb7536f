"""`select: latest`: the newest partition at or before an interval.

A partition covers a period, such as a day. The newest partition is the one whose period ends last, but not after the interval.
So an interval never reads data that is later than itself, also in a backfill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from firesteel.conf.partitions import PartitionValue, value_text
from firesteel.pipelines.spec.date_formats import period, unit_of_formats

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


@dataclass(frozen=True, slots=True)
class Newest:
    """A partition: its values, one of its directories, and the local time at which its period ends."""

    values: Mapping[str, PartitionValue]
    directory: str
    end: datetime


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
        return self._below([""], 0, {}, end)

    def _below(
        self, heads: list[str], depth: int, known: dict[str, PartitionValue], end: datetime | None
    ) -> Newest | None:
        column = self.columns[depth]
        groups: dict[PartitionValue, list[str]] = {}
        for head in heads:
            branches = self.levels.branches(head, depth)
            self.problems |= dict.fromkeys(branches.problems)
            for value, names in branches.names.items():
                groups.setdefault(value, []).extend(f"{head}/{name}".lstrip("/") for name in names)
        if column not in self.formats:
            wanted = self.selected.get(column)
            below = [path for value, paths in groups.items() if wanted is None or value in wanted for path in paths]
            return self._below(below, depth + 1, known, end) if below else None
        periods = []
        for value, paths in groups.items():
            if value is None:  # rows without a date
                continue
            try:
                opens, closes = self._period({**known, column: value})
            except ValueError as error:
                self.problems[f"{self.levels.uri(paths[0])}: {error}."] = None
                continue
            periods.append((opens, closes, value, paths))
        best: Newest | None = None
        for opens, closes, value, paths in sorted(periods, key=lambda item: item[:2], reverse=True):
            values = {**known, column: value}
            if values.keys() == self.formats.keys():
                if end is None or closes <= end:
                    return Newest(values, paths[0], closes)
            elif end is None or opens < end:
                found = self._below(paths, depth + 1, values, end)
                if found is not None and closes < _ALWAYS[1]:
                    return found
                best = max((item for item in (best, found) if item), key=lambda item: item.end, default=None)
        return best

    def _period(self, values: Mapping[str, PartitionValue]) -> tuple[datetime, datetime]:
        """Return the period of the values of the first columns; all of time if they name none."""
        texts = {self.formats[column]: value_text(value) for column, value in values.items()}
        if unit_of_formats(list(texts)) is None:
            return _ALWAYS
        return period(texts)
