"""The profile of a column, which is the baseline of drift gates. The ledger record of a publish stores it.

A profile contains counts per bin and no row values: edges and moments for numbers, CRC-32 codes for texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firesteel.conf.types import is_number

Kind = Literal["number", "category", "other"]
"""Numbers are counted between edges, strings and booleans by value; for all other types only nulls are counted."""


def kind_of(type_: str) -> Kind:
    """Return how values of a Spark SQL type are counted.

    Examples
    --------
    >>> kind_of("decimal(10,2)"), kind_of("boolean"), kind_of("interval day"), kind_of("date")
    ('number', 'category', 'other', 'other')
    """
    if type_ in {"string", "boolean"}:
        return "category"
    return "number" if is_number(type_) else "other"


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one column of one relation (`on`, as in a gate) in one interval.

    Attributes
    ----------
    mean, std
        Mean and sample standard deviation of the finite values. None if there are no finite values, or the result exceeds a double.
    bins
        For numbers, the inner edges, ascending: bin i counts the values above edge i - 1 up to edge i. For categories, their codes.
    counts
        One count per bin, and one for numbers above the last edge or for all other categories. Nulls and NaNs are not counted.
    bin_rows
        Number of values from which `bins` were computed, in the first published interval.
    """

    on: str
    column: str
    type: str
    rows: int
    nulls: int
    nans: int = 0
    mean: float | None = None
    std: float | None = None
    bins: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    bin_rows: int = 0

    @property
    def kind(self) -> Kind:
        """Return how the column's values are counted."""
        return kind_of(self.type)

    @property
    def values(self) -> int:
        """Return the number of values that are not null or NaN."""
        return self.rows - self.nulls - self.nans
