"""Where a profile cuts a column: ten bins of equal frequency, or the twenty most frequent values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

DECILES = tuple(part / 10 for part in range(1, 10))
TOP = 20
"""Categories that have a bin of their own."""


def edges_of(deciles: Sequence[float], least: float) -> tuple[float, ...]:
    """Inner edges from the deciles of a column's finite values.

    Where the least value fills the first bin alone (a constant, many zeros), what is below it gets a bin of its own.

    Examples
    --------
    >>> edges_of([1.0, 2.0, 2.0, 3.0], 0.5)
    (1.0, 2.0, 3.0)
    >>> edges_of([0.0, 0.0, 7.0], 0.0)
    (-5e-324, 0.0, 7.0)
    """
    edges = sorted({float(edge) + 0.0 for edge in deciles})  # + 0.0: there are two zeros, and one edge
    if edges and edges[0] <= least:
        edges.insert(0, math.nextafter(edges[0], -math.inf))
    return tuple(edge for edge in edges if math.isfinite(edge))


def code_of(text: str) -> int:
    """What stands for a category in the ledger, where no values of rows belong: CRC-32 of its UTF-8, as Spark computes it."""
    return zlib.crc32(text.encode())


def top_of(counts: Mapping[int, int]) -> tuple[float, ...]:
    """The codes of the most frequent categories, the most frequent first; the smaller code where two are equal."""
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return tuple(float(code) for code, _ in ranked[:TOP])


def cut(cumulative: Sequence[int], all_values: int) -> tuple[int, ...]:
    """Counts in bins from counts up to each edge.

    Examples
    --------
    >>> cut([3, 5], 9)
    (3, 2, 4)
    """
    ends = [0, *cumulative, all_values]
    return tuple(after - before for before, after in pairwise(ends))
