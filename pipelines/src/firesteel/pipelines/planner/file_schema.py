"""The columns of a file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firesteel.conf.types import VOID
from firesteel.pipelines.plan.model import Column

MAX_PRECISION = 38
"""Most digits of a Spark decimal."""


@dataclass(frozen=True, slots=True, eq=False)
class FileSchema:
    """The columns of a file. `unreadable` maps columns that Spark cannot read to the reason (a phrase after "is").

    Files with the same schema share one object.
    """

    columns: tuple[Column, ...]
    unreadable: Mapping[str, str]

    @classmethod
    def of(cls, columns: Sequence[tuple[Column, Sequence[str]]]) -> FileSchema:
        """Return the schema of columns, each with the reasons why Spark cannot read it."""
        unreadable: dict[str, str] = {}
        lower = [column.name.lower() for column, _ in columns]
        for column, reasons in columns:
            if reasons:
                unreadable[column.name] = reasons[0]
            elif VOID in column.type and column.type != VOID:
                unreadable[column.name] = "a nested column of nulls without a type"
            if lower.count(column.name.lower()) > 1:
                unreadable[column.name] = "one of several columns whose names differ only in case"
        return cls(tuple(column for column, _ in columns), unreadable)

    @property
    def types(self) -> dict[str, str]:
        """Return column -> type."""
        return {column.name: column.type for column in self.columns}
