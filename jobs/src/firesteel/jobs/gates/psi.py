"""The population stability index: how far two distributions over the same bins are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

SMOOTHING = 0.5
"""Added to the count of each bin: Jeffreys' prior. A bin that is empty on one side then gives a number, and not infinity."""


def psi(then: Sequence[int], now: Sequence[int]) -> float:
    """`sum((now_i - then_i) * ln(now_i / then_i))` over the fractions of rows in each bin, smoothed.

    It is the symmetric Kullback-Leibler (Jeffreys) divergence: `KL(now, then) + KL(then, now)`. The customary reading, below 0.1
    little, above 0.25 much, is Siddiqi's (Credit Risk Scorecards, 2006, chapter 9). Where nothing has changed it is about
    `(bins - 1) * (1 / sum(then) + 1 / sum(now))` by chance alone (Yurdakul, Statistical Properties of Population Stability Index,
    2018): a tenth of the limit 0.2 for ten bins and 1,000 rows on each side.

    Parameters
    ----------
    then, now
        Rows in each bin. Bins that are empty on both sides say nothing, and are left out.

    Examples
    --------
    >>> psi([50, 50], [50, 50])
    0.0
    >>> round(psi([50, 50, 0], [80, 20, 0]), 4)  # 80.5/101, 20.5/101 against 1/2, 1/2
    0.4063
    """
    pairs = [(float(a) + SMOOTHING, float(b) + SMOOTHING) for a, b in zip(then, now, strict=True) if a or b]
    whole_then, whole_now = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    return math.fsum((b / whole_now - a / whole_then) * math.log(b / whole_now / (a / whole_then)) for a, b in pairs)
