"""Profiles of columns whose values are here already, in Arrow: the same as `measure.py` has Spark find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firesteel.jobs.gates.bins import DECILES, code_of, edges_of, top_of
from firesteel.pipelines.profile import Profile

if TYPE_CHECKING:
    from firesteel.jobs.gates.measure import Wanted


def profile_of(wanted: Wanted, chunks: Sequence[pa.ChunkedArray], *, least_rows: int) -> Profile:
    """The profile of a column.

    Parameters
    ----------
    chunks
        The column of each file.
    """
    rows, nulls = sum(len(chunk) for chunk in chunks), sum(chunk.null_count for chunk in chunks)
    made = Profile(wanted.on, wanted.column, wanted.type, rows, nulls)
    if made.kind == "number":
        return _numbers(made, wanted, chunks, least_rows)
    if made.kind == "category":
        return _categories(made, wanted, chunks, least_rows)
    return made


def _numbers(made: Profile, wanted: Wanted, chunks: Sequence[pa.ChunkedArray], least_rows: int) -> Profile:
    parts = [_doubles(chunk).drop_null().to_numpy() for chunk in chunks]
    values = np.concatenate(parts) if parts else np.empty(0)
    nans = np.isnan(values)
    finite = values[np.isfinite(values)]
    made = replace(made, nans=int(nans.sum()), mean=_moment(finite, 1), std=_moment(finite, 2))
    bins, bin_rows = wanted.bins, wanted.bin_rows
    if bins is None:
        if made.rows < least_rows:
            return made
        bins, bin_rows = (), made.values
        if len(finite):
            deciles = np.quantile(finite, DECILES, method="inverted_cdf")
            bins = edges_of([float(each) for each in deciles], float(finite.min()))
    places = np.searchsorted(np.array(bins), values[~nans], side="left")
    counts = np.bincount(places, minlength=len(bins) + 1)
    return replace(made, bins=bins, counts=tuple(int(count) for count in counts), bin_rows=bin_rows)


def _doubles(chunk: pa.ChunkedArray) -> pa.ChunkedArray:
    """As Spark casts. Arrow makes 5.9990000000000006 of the decimal 5.999: by way of its text it is the nearest double."""
    if pa.types.is_decimal(chunk.type):
        chunk = chunk.cast(pa.string())
    return chunk.cast(pa.float64(), safe=False)


def _moment(finite: Any, which: int) -> float | None:
    if len(finite) < which:
        return None
    with np.errstate(all="ignore"):
        found = float(finite.mean() if which == 1 else finite.std(ddof=1))
    return found if np.isfinite(found) else None


def _categories(made: Profile, wanted: Wanted, chunks: Sequence[pa.ChunkedArray], least_rows: int) -> Profile:
    found: Counter[int] = Counter()
    for chunk in chunks:
        counted = pc.value_counts(chunk.cast(pa.string()).drop_null())
        for value, count in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True):
            found[code_of(value)] += count
    bins, bin_rows = wanted.bins, wanted.bin_rows
    if bins is None:
        if made.rows < least_rows:
            return made
        bins, bin_rows = top_of(found), made.values
    counts = [found[int(each)] for each in bins]
    return replace(made, bins=bins, counts=(*counts, made.values - sum(counts)), bin_rows=bin_rows)
