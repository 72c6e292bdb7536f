"""The profile of a column: what the next run is held against. Kept in the ledger's record of the publish that it describes.

A profile holds counts in bins and no values of rows: edges and moments of numbers, CRC-32 codes in place of texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firesteel.conf.types import is_number

Kind = Literal["number", "category", "other"]
"""Numbers are cut by edges, strings and booleans counted by value; of all other types only nulls are counted."""


def kind_of(type_: str) -> Kind:
    """What is counted of a column of a Spark SQL type.

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
    """One column of one relation (`on`, as gates name it) in one interval.

    Attributes
    ----------
    mean, std
        Of the finite values; the sample's standard deviation. None where there are none, or they exceed a double.
    bins
        Of numbers the inner edges, ascending: bin i holds the values above edge i - 1 up to edge i. Of categories their codes.
    counts
        One more than `bins`: numbers above the last edge, or all other categories. Nulls and NaNs are in none of them.
    bin_rows
        The values that `bins` were made of, in the first success that they come from.
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
        """What is counted of it."""
        return kind_of(self.type)

    @property
    def values(self) -> int:
        """Values that are neither null nor NaN."""
        return self.rows - self.nulls - self.nans
