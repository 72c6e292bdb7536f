"""The partitions that one interval reads, as typed values: columns that hold dates together are chosen together.

`year=2024/month=5` and `month=6` are two rows of (year, month) and not all pairs of years and months.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from firesteel.conf.errors import SpecError, Where
from firesteel.conf.partitions import PartitionValue, parse_selected
from firesteel.conf.quantities import plural
from firesteel.pipelines.plan.intervals import Slot, formatted_rows, range_rows, selected_values
from firesteel.pipelines.spec.model import Formatted, Latest, Range, Source
from firesteel.pipelines.spec.values import parse_column_type

Row = tuple[PartitionValue, ...]


@dataclass(slots=True)
class Choice:
    """The rows of values that one interval selects for some partition columns, in the order of the levels.

    Attributes
    ----------
    needed
        How many rows must have a directory; None if each missing directory is an error of its own.
    found
        Output: the rows with a directory.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    needed: int | None = None
    found: set[Row] = field(default_factory=set)
    _next: dict[Row, dict[PartitionValue, None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            for depth, value in enumerate(row):
                self._next.setdefault(row[:depth], {})[value] = None

    def values(self, column: str, known: Mapping[str, PartitionValue]) -> list[PartitionValue]:
        """Return the selected values of a column below a directory, whose own values are `known`."""
        return list(self._next.get(self._row(column, known), ()))

    def add(self, column: str, known: Mapping[str, PartitionValue], value: PartitionValue) -> None:
        """Note that a directory exists."""
        if column == self.columns[-1]:
            self.found.add((*self._row(column, known), value))

    def _row(self, column: str, known: Mapping[str, PartitionValue]) -> Row:
        return tuple(known[name] for name in self.columns[: self.columns.index(column)])


def choices(source: Source, slot: Slot, where: Where) -> dict[str, Choice]:
    """Return partition column -> the choice that it is part of. Columns with `latest` depend on directories and are left out.

    Raises
    ------
    SpecError
        FS1004 when a value cannot be computed, or is not of its partition's type.
    """
    found: dict[str, Choice] = {}
    for columns in _groups(source):
        try:
            choice = _choice(source, columns, slot)
        except ValueError as error:
            raise SpecError("FS1004", f"`select.{columns[0]}`: {error}.", where=where) from None
        found |= dict.fromkeys(columns, choice)
    return found


def type_of(source: Source, column: str) -> str:
    """Return the Spark type of a partition column."""
    return parse_column_type(source.levels[column])[0]


def _groups(source: Source) -> Iterator[tuple[str, ...]]:
    """Yield the columns that are chosen together: those with formats of the interval, and those of one range."""
    groups: dict[object, list[str]] = {}
    for column in source.levels:
        select = source.select.get(column)
        key: object = column
        if isinstance(select, Formatted):
            key = Formatted
        elif isinstance(select, Range):
            key = (select.from_, select.to, select.at_least)
        if select is not None and not isinstance(select, Latest):
            groups.setdefault(key, []).append(column)
    yield from map(tuple, groups.values())


def _choice(source: Source, columns: Sequence[str], slot: Slot) -> Choice:
    selects = [source.select[column] for column in columns]
    first, needed = selects[0], None
    formats = [select.format for select in selects if isinstance(select, Formatted)]
    ranges = [select.format for select in selects if isinstance(select, Range)]
    if formats:
        texts = formatted_rows(formats, slot)
    elif isinstance(first, Range):
        texts = range_rows(first, ranges, slot)
    else:
        texts = tuple((text,) for text in selected_values(first, slot))
    kinds = [type_of(source, column) for column in columns]
    rows = [tuple(parse_selected(text, kind) for text, kind in zip(row, kinds, strict=True)) for row in texts]
    rows = list(dict.fromkeys(rows))
    if isinstance(first, Range) and first.at_least is not None:
        needed = first.needed(len(rows))
        if needed > len(rows):
            raise ValueError(f"`at_least: {needed}` is more than the {plural(len(rows), 'partition')} of the range")
    return Choice(tuple(columns), tuple(rows), needed)
