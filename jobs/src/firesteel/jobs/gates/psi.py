"""Compute the population stability index (PSI) of two distributions over the same bins."""

from __future__ import annotations

import math
from collections.abc import Sequence

SMOOTHING = 0.5
"""Jeffreys' prior, added to the count of each bin. It keeps the PSI finite if a bin is empty on one side."""


def psi(baseline: Sequence[int], current: Sequence[int]) -> float:
    """Return `sum((current_i - baseline_i) * ln(current_i / baseline_i))` over the smoothed row fractions of the bins.

    The PSI is the symmetric Kullback-Leibler (Jeffreys) divergence: `KL(current, baseline) + KL(baseline, current)`. Siddiqi (Credit
    Risk Scorecards, 2006, chapter 9) reads a PSI below 0.1 as no shift and above 0.25 as a large shift. Without a shift, the expected
    PSI is `(bins - 1) * (1 / sum(baseline) + 1 / sum(current))` (Yurdakul, Statistical Properties of Population Stability Index, 2018).
    For ten bins and 1,000 rows on each side that is 0.018, a tenth of the limit 0.2.

    Parameters
    ----------
    baseline, current
        Rows in each bin. The sum excludes bins that are empty on both sides.

    Examples
    --------
    >>> psi([50, 50], [50, 50])
    0.0
    >>> round(psi([50, 50, 0], [80, 20, 0]), 4)  # 80.5/101, 20.5/101 against 1/2, 1/2
    0.4063
    """
    pairs = [(float(a) + SMOOTHING, float(b) + SMOOTHING) for a, b in zip(baseline, current, strict=True) if a or b]
    total_baseline, total_current = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    return math.fsum(
        (b / total_current - a / total_baseline) * math.log(b / total_current / (a / total_baseline)) for a, b in pairs
    )
