"""Compute column profiles from Arrow values on the driver. The results equal those of `measure.py`."""

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
    from firesteel.jobs.gates.measure import Measurement


def profile_of(measurement: Measurement, chunks: Sequence[pa.ChunkedArray], *, least_rows: int) -> Profile:
    """Return the profile of a column.

    Parameters
    ----------
    chunks
        The column of each file.
    """
    rows, nulls = sum(len(chunk) for chunk in chunks), sum(chunk.null_count for chunk in chunks)
    profile = Profile(measurement.on, measurement.column, measurement.type, rows, nulls)
    if profile.kind == "number":
        return _numbers(profile, measurement, chunks, least_rows)
    if profile.kind == "category":
        return _categories(profile, measurement, chunks, least_rows)
    return profile


def _numbers(profile: Profile, measurement: Measurement, chunks: Sequence[pa.ChunkedArray], least_rows: int) -> Profile:
    parts = [_doubles(chunk).drop_null().to_numpy() for chunk in chunks]
    values = np.concatenate(parts) if parts else np.empty(0)
    nans = np.isnan(values)
    finite = values[np.isfinite(values)]
    profile = replace(profile, nans=int(nans.sum()), mean=_moment(finite, 1), std=_moment(finite, 2))
    bins, bin_rows = measurement.bins, measurement.bin_rows
    if bins is None:
        if profile.rows < least_rows:
            return profile
        bins, bin_rows = (), profile.values
        if len(finite):
            deciles = np.quantile(finite, DECILES, method="inverted_cdf")
            bins = edges_of([float(decile) for decile in deciles], float(finite.min()))
    bin_numbers = np.searchsorted(np.array(bins), values[~nans], side="left")
    counts = np.bincount(bin_numbers, minlength=len(bins) + 1)
    return replace(profile, bins=bins, counts=tuple(int(count) for count in counts), bin_rows=bin_rows)


def _doubles(chunk: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast to double as Spark does. Arrow casts the decimal 5.999 to 5.9990000000000006; its text parses to the nearest double."""
    if pa.types.is_decimal(chunk.type):
        chunk = chunk.cast(pa.string())
    return chunk.cast(pa.float64(), safe=False)


def _moment(finite: Any, order: int) -> float | None:
    if len(finite) < order:
        return None
    with np.errstate(all="ignore"):
        moment = float(finite.mean() if order == 1 else finite.std(ddof=1))
    return moment if np.isfinite(moment) else None


def _categories(
    profile: Profile, measurement: Measurement, chunks: Sequence[pa.ChunkedArray], least_rows: int
) -> Profile:
    counts_by_code: Counter[int] = Counter()
    for chunk in chunks:
        value_counts = pc.value_counts(chunk.cast(pa.string()).drop_null())
        for value, count in zip(
            value_counts.field("values").to_pylist(), value_counts.field("counts").to_pylist(), strict=True
        ):
            counts_by_code[code_of(value)] += count
    bins, bin_rows = measurement.bins, measurement.bin_rows
    if bins is None:
        if profile.rows < least_rows:
            return profile
        bins, bin_rows = top_of(counts_by_code), profile.values
    counts = [counts_by_code[int(code)] for code in bins]
    return replace(profile, bins=bins, counts=(*counts, profile.values - sum(counts)), bin_rows=bin_rows)
