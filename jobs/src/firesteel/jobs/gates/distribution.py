"""Compute the moments and a histogram of numeric columns with two Spark jobs, or on the driver for local values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from firesteel.conf.types import is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pydantic import JsonValue
    from pyspark.sql import Column, DataFrame

BINS = 20
BLOCK = 1 << 16
LEAST_SPAN = 1e-290  # below this span, no power of ten separates the edges


def distribution(
    df: DataFrame, columns: Sequence[str], bins: int = BINS
) -> tuple[tuple[str, dict[str, JsonValue]], ...]:
    """Return the distribution of each numeric column in `columns`.

    Returns
    -------
    tuple of (name, facts)
        `rows`, `nulls`, `not_finite` (NaN and infinities), `min`, `max`, `mean` of the finite values (None if there
        are none) and `histogram`: [[left, right, count], ...] in at most `bins` + 1 bins with round edges, the last
        one closed on the right. The histogram counts sum to rows - nulls - not_finite.
    """
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    kinds = {field.name: field.dataType.simpleString() for field in df.schema.fields}
    numeric = [name for name in columns if is_number(kinds.get(name, ""))]
    if not numeric:
        return ()
    values = {name: F.col(f"`{name}`").cast("double") for name in numeric}
    # abs(x) < inf is false for NaN (which Spark orders above all numbers), both infinities, and null.
    finite = {name: F.when(F.abs(value) < F.lit(math.inf), value) for name, value in values.items()}
    aggregates = [F.count(F.lit(1)).alias("rows")]
    for index, name in enumerate(numeric):
        aggregates += [
            F.count(values[name]).alias(f"present{index}"),
            F.count(finite[name]).alias(f"finite{index}"),
            F.min(finite[name]).alias(f"min{index}"),
            F.max(finite[name]).alias(f"max{index}"),
            F.avg(finite[name]).alias(f"mean{index}"),
        ]
    moments = df.agg(*aggregates).collect()[0]
    edges = {
        name: round_edges(moments[f"min{index}"], moments[f"max{index}"], bins)
        for index, name in enumerate(numeric)
        if moments[f"finite{index}"]
    }
    bin_counts = [
        F.count(F.when(_within(finite[name], bounds, index), 1)).alias(f"{name}#{index}")
        for name, bounds in edges.items()
        for index in range(len(bounds) - 1)
    ]
    counts = df.agg(*bin_counts).collect()[0] if bin_counts else None
    distributions: list[tuple[str, dict[str, JsonValue]]] = []
    for index, name in enumerate(numeric):
        bounds = edges.get(name, [])
        histogram: list[JsonValue] = [
            [bounds[index], bounds[index + 1], int(counts[f"{name}#{index}"]) if counts else 0]
            for index in range(len(bounds) - 1)
        ]
        facts: dict[str, JsonValue] = {
            "rows": moments["rows"],
            "nulls": moments["rows"] - moments[f"present{index}"],
            "not_finite": moments[f"present{index}"] - moments[f"finite{index}"],
            "min": moments[f"min{index}"],
            "max": moments[f"max{index}"],
            "mean": moments[f"mean{index}"],
            "histogram": histogram,
        }
        distributions.append((name, facts))
    return tuple(distributions)


def describe(chunks: Sequence[Any], rows: int, map_chunks: Callable[..., Iterable[Any]] = map) -> dict[str, JsonValue]:
    """Return the same facts as `distribution` for local values.

    Parameters
    ----------
    chunks
        `float64` arrays of the values that are not null.
    rows
        Rows of the column, including nulls.
    map_chunks
        `map`, or the `map` of a thread pool.
    """
    import numpy as np

    moments = [part for part in map_chunks(_moments, chunks) if part[0]]
    present, finite = sum(len(chunk) for chunk in chunks), sum(count for count, *_ in moments)
    low = min((part[1] for part in moments), default=None)
    high = max((part[2] for part in moments), default=None)
    mean = sum(part[3] for part in moments) / finite if finite else None
    histogram: list[JsonValue] = []
    if low is not None and high is not None:
        bounds = round_edges(low, high, BINS)
        counts = np.sum([*map_chunks(lambda chunk: _counts(chunk, bounds), chunks)], axis=0)
        histogram = [[bounds[index], bounds[index + 1], int(count)] for index, count in enumerate(counts)]
    return {
        "rows": rows,
        "nulls": rows - present,
        "not_finite": present - finite,
        "min": low,
        "max": high,
        "mean": mean if mean is not None and math.isfinite(mean) else None,
        "histogram": histogram,
    }


def _moments(chunk: Any) -> tuple[int, float, float, float]:
    """Return the count, minimum, maximum and sum of the finite values."""
    import numpy as np

    finite = chunk[np.isfinite(chunk)]
    if not len(finite):
        return 0, 0.0, 0.0, 0.0
    with np.errstate(over="ignore"):
        return len(finite), float(finite.min()), float(finite.max()), float(finite.sum())


def _counts(chunk: Any, bounds: list[float]) -> Any:
    """Count the finite values in each bin. Blocks keep the working set in the CPU cache."""
    import numpy as np

    edges = np.array(bounds)
    counts = np.zeros(len(bounds) - 1, np.int64)
    for start in range(0, len(chunk), BLOCK):
        block = chunk[start : start + BLOCK]
        block = block[np.isfinite(block)]
        bins = np.minimum(np.searchsorted(edges, block, side="right") - 1, len(bounds) - 2)
        counts += np.bincount(bins, minlength=len(counts))
    return counts


def round_edges(low: float, high: float, bins: int) -> list[float]:
    """Return edges at multiples of 1, 2 or 5 times a power of ten, which are readable and stable between intervals."""
    if high - low < LEAST_SPAN or not math.isfinite(high - low):
        return [low, high]
    raw = (high - low) / bins
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))
    digits = max(0, 1 - math.floor(math.log10(step)))
    first, last = math.floor(low / step), math.ceil(high / step)
    edges = [round(number * step, digits) for number in range(first, last + 1)]
    # Rounding can exclude the extremes or overflow a double.
    edges[0] = min(edges[0], low) if math.isfinite(edges[0]) else low
    edges[-1] = max(edges[-1], high) if math.isfinite(edges[-1]) else high
    return edges


def _within(value: Column, bounds: list[float], index: int) -> Column:
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    last = index == len(bounds) - 2
    upper = value <= F.lit(bounds[index + 1]) if last else value < F.lit(bounds[index + 1])
    return (value >= F.lit(bounds[index])) & upper
