"""Choose the bins of a column profile: ten bins of equal frequency, or the 20 most frequent values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

DECILES = tuple(part / 10 for part in range(1, 10))
TOP = 20
"""Number of categories with their own bin."""


def edges_of(deciles: Sequence[float], least: float) -> tuple[float, ...]:
    """Return the inner bin edges from the deciles of a column's finite values.

    If the first decile is the minimum (a constant, many zeros), an additional bin holds the values below the minimum.

    Examples
    --------
    >>> edges_of([1.0, 2.0, 2.0, 3.0], 0.5)
    (1.0, 2.0, 3.0)
    >>> edges_of([0.0, 0.0, 7.0], 0.0)
    (-5e-324, 0.0, 7.0)
    """
    edges = sorted({float(edge) + 0.0 for edge in deciles})  # + 0.0 turns -0.0 into 0.0
    if edges and edges[0] <= least:
        edges.insert(0, math.nextafter(edges[0], -math.inf))
    return tuple(edge for edge in edges if math.isfinite(edge))


def code_of(text: str) -> int:
    """Return the code of a category (CRC-32 of its UTF-8 bytes, as in Spark). The ledger holds codes because row values are private."""
    return zlib.crc32(text.encode())


def top_of(counts: Mapping[int, int]) -> tuple[float, ...]:
    """Return the codes of the most frequent categories by descending frequency, then by ascending code."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(float(code) for code, _ in ranked[:TOP])


def bin_counts(cumulative: Sequence[int], all_values: int) -> tuple[int, ...]:
    """Return the counts per bin from the cumulative counts at each edge.

    Examples
    --------
    >>> bin_counts([3, 5], 9)
    (3, 2, 4)
    """
    ends = [0, *cumulative, all_values]
    return tuple(end - start for start, end in pairwise(ends))
