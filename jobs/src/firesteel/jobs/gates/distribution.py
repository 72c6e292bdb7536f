"""The distribution of columns: moments first, then a histogram between what they say. Two Spark jobs, or none for values at hand."""

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
LEAST_SPAN = 1e-290  # less has no powers of ten to put edges at


def distribution(
    df: DataFrame, columns: Sequence[str], bins: int = BINS
) -> tuple[tuple[str, dict[str, JsonValue]], ...]:
    """Describe the numeric ones of `columns`; others are left out.

    Returns
    -------
    tuple of (name, facts)
        `rows`, `nulls`, `not_finite` (NaN and infinities), `min`, `max`, `mean` of the finite values (None when there
        are none) and `histogram`: [[left, right, count], ...] in at most `bins` + 1 bins with round edges, the last
        one closed on the right. Counts of the histogram add up to rows - nulls - not_finite.
    """
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    kinds = {field.name: field.dataType.simpleString() for field in df.schema.fields}
    numeric = [name for name in columns if is_number(kinds.get(name, ""))]
    if not numeric:
        return ()
    values = {name: F.col(f"`{name}`").cast("double") for name in numeric}
    # abs(x) < inf is false for NaN (which Spark orders above all numbers), both infinities, and null.
    finite = {name: F.when(F.abs(value) < F.lit(math.inf), value) for name, value in values.items()}
    asked = [F.count(F.lit(1)).alias("rows")]
    for number, name in enumerate(numeric):
        asked += [
            F.count(values[name]).alias(f"present{number}"),
            F.count(finite[name]).alias(f"finite{number}"),
            F.min(finite[name]).alias(f"min{number}"),
            F.max(finite[name]).alias(f"max{number}"),
            F.avg(finite[name]).alias(f"mean{number}"),
        ]
    moments = df.agg(*asked).collect()[0]
    edges = {
        name: round_edges(moments[f"min{number}"], moments[f"max{number}"], bins)
        for number, name in enumerate(numeric)
        if moments[f"finite{number}"]
    }
    counted = [
        F.count(F.when(_within(finite[name], bounds, index), 1)).alias(f"{name}#{index}")
        for name, bounds in edges.items()
        for index in range(len(bounds) - 1)
    ]
    counts = df.agg(*counted).collect()[0] if counted else None
    found: list[tuple[str, dict[str, JsonValue]]] = []
    for number, name in enumerate(numeric):
        bounds = edges.get(name, [])
        histogram: list[JsonValue] = [
            [bounds[index], bounds[index + 1], int(counts[f"{name}#{index}"]) if counts else 0]
            for index in range(len(bounds) - 1)
        ]
        facts: dict[str, JsonValue] = {
            "rows": moments["rows"],
            "nulls": moments["rows"] - moments[f"present{number}"],
            "not_finite": moments[f"present{number}"] - moments[f"finite{number}"],
            "min": moments[f"min{number}"],
            "max": moments[f"max{number}"],
            "mean": moments[f"mean{number}"],
            "histogram": histogram,
        }
        found.append((name, facts))
    return tuple(found)


def describe(chunks: Sequence[Any], rows: int, each: Callable[..., Iterable[Any]] = map) -> dict[str, JsonValue]:
    """The same facts of values that are here already.

    Parameters
    ----------
    chunks
        `float64` arrays of the values that are not null.
    rows
        Of the column, nulls included.
    each
        `map`, or that of a thread pool: chunks are looked at by themselves.
    """
    import numpy as np

    moments = [found for found in each(_moments, chunks) if found[0]]
    present, finite = sum(len(chunk) for chunk in chunks), sum(count for count, *_ in moments)
    low = min((found[1] for found in moments), default=None)
    high = max((found[2] for found in moments), default=None)
    mean = sum(found[3] for found in moments) / finite if finite else None
    histogram: list[JsonValue] = []
    if low is not None and high is not None:
        bounds = round_edges(low, high, BINS)
        counts = np.sum([*each(lambda chunk: _counts(chunk, bounds), chunks)], axis=0)
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
    """How many are finite; the least, the largest and the sum of those."""
    import numpy as np

    finite = chunk[np.isfinite(chunk)]
    if not len(finite):
        return 0, 0.0, 0.0, 0.0
    with np.errstate(over="ignore"):
        return len(finite), float(finite.min()), float(finite.max()), float(finite.sum())


def _counts(chunk: Any, bounds: list[float]) -> Any:
    """Finite values in each bin, the last one closed on the right; block by block, in the cache."""
    import numpy as np

    edges = np.array(bounds)
    counts = np.zeros(len(bounds) - 1, np.int64)
    for start in range(0, len(chunk), BLOCK):
        block = chunk[start : start + BLOCK]
        block = block[np.isfinite(block)]
        places = np.minimum(np.searchsorted(edges, block, side="right") - 1, len(bounds) - 2)
        counts += np.bincount(places, minlength=len(counts))
    return counts


def round_edges(low: float, high: float, bins: int) -> list[float]:
    """Edges at multiples of 1, 2 or 5 times a power of ten: readable, and mostly the same from day to day."""
    if high - low < LEAST_SPAN or not math.isfinite(high - low):
        return [low, high]
    raw = (high - low) / bins
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))
    digits = max(0, 1 - math.floor(math.log10(step)))
    first, last = math.floor(low / step), math.ceil(high / step)
    edges = [round(number * step, digits) for number in range(first, last + 1)]
    # Rounding may have moved the ends past the extremes, or beyond what a double can hold.
    edges[0] = min(edges[0], low) if math.isfinite(edges[0]) else low
    edges[-1] = max(edges[-1], high) if math.isfinite(edges[-1]) else high
    return edges


def _within(value: Column, bounds: list[float], index: int) -> Column:
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    last = index == len(bounds) - 2
    upper = value <= F.lit(bounds[index + 1]) if last else value < F.lit(bounds[index + 1])
    return (value >= F.lit(bounds[index])) & upper
