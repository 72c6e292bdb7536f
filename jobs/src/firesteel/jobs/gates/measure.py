"""Measure column profiles with Spark aggregates, in the same pass as the compiled expectations.

If the baseline has no bins, the first pass computes deciles and a second pass counts the rows in each bin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from firesteel.jobs.gates.bins import DECILES, TOP, bin_counts, edges_of, top_of
from firesteel.pipelines.profile import Profile, kind_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from firesteel.pipelines.profile import Kind

    Run = Callable[[Mapping[str, Column]], Mapping[str, Any]]
    """Compute named aggregates in one pass over the frame."""

ACCURACY = 10_000
"""Accuracy of Spark's percentile sketch: the rank error is 1 / 10,000. Bin edges may be approximate because the counts are exact."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A column to measure. `bins` and `bin_rows` come from the baseline; `bins` is None if the baseline has no usable bins."""

    on: str
    column: str
    type: str
    bins: tuple[float, ...] | None
    bin_rows: int = 0

    @property
    def kind(self) -> Kind:
        """Return the kind of the column."""
        return kind_of(self.type)

    def aggregates(self) -> dict[str, Column]:
        """Return the aggregates of one pass."""
        from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

        column = F.col("`" + self.column.replace("`", "``") + "`")
        aggregates = {self._name("rows"): F.count(F.lit(1)), self._name("values"): F.count(column)}
        if self.kind == "number":
            value = column.cast("double")
            # abs(x) < inf is false for NaN (which Spark orders above all numbers), both infinities, and null.
            finite = F.when(F.abs(value) < F.lit(math.inf), value)
            aggregates |= {
                self._name("nans"): F.count_if(F.isnan(value)),
                self._name("mean"): F.avg(finite),
                self._name("std"): F.stddev_samp(finite),
            }
            if self.bins is None:
                aggregates[self._name("least")] = F.min(finite)
                aggregates[self._name("deciles")] = F.percentile_approx(finite, list(DECILES), ACCURACY)
            else:
                aggregates |= _cumulative(self.bins, value, self._name)
        elif self.kind == "category" and self.bins is not None:
            code = F.crc32(column.cast("string").cast("binary"))
            for index, category in enumerate(self.bins):
                aggregates[self._name(index)] = F.count_if(code == F.lit(int(category)))
        return aggregates

    def profile(self, values: Mapping[str, Any], run: Run, frame: DataFrame, *, least_rows: int) -> Profile:
        """Return the profile. If there are no bins and at least `least_rows` rows, compute the bins in a second pass."""

        def value(name: str | int) -> Any:
            return values[self._name(name)]

        profile = Profile(
            self.on, self.column, self.type, int(value("rows")), int(value("rows")) - int(value("values"))
        )
        if profile.kind == "number":
            profile = replace(profile, nans=int(value("nans")), mean=_finite(value("mean")), std=_finite(value("std")))
        if profile.kind == "other":
            return profile
        bins, bin_rows = self.bins, self.bin_rows
        if bins is None:
            if profile.rows < least_rows:
                return profile
            if profile.kind == "category":
                return self._categories(profile, frame)
            bins, bin_rows = (
                edges_of(value("deciles") or (), value("least") if profile.values else math.inf),
                profile.values,
            )
            values = run(replace(self, bins=bins).aggregates()) if bins else values
        cumulative = [int(value(index)) for index in range(len(bins))]
        counts = (
            bin_counts(cumulative, profile.values)
            if profile.kind == "number"
            else (*cumulative, profile.values - sum(cumulative))
        )
        return replace(profile, bins=bins, counts=counts, bin_rows=bin_rows)

    def _categories(self, profile: Profile, frame: DataFrame) -> Profile:
        from pyspark.sql import functions as F  # noqa: N812

        column = F.col("`" + self.column.replace("`", "``") + "`")
        code = F.crc32(column.cast("string").cast("binary")).alias("code")
        rows_by_code = frame.where(column.isNotNull()).groupBy(code).agg(F.count(F.lit(1)).alias("n"))
        rows = rows_by_code.orderBy(F.col("n").desc(), F.col("code")).limit(TOP).collect()
        counts_by_code = {int(row["code"]): int(row["n"]) for row in rows}
        bins = top_of(counts_by_code)
        counts = [counts_by_code[int(code_value)] for code_value in bins]
        return replace(profile, bins=bins, counts=(*counts, profile.values - sum(counts)), bin_rows=profile.values)

    def _name(self, aggregate: str | int) -> str:
        return f"drift {aggregate} {self.column}"


def _cumulative(edges: Sequence[float], value: Column, name: Callable[[str | int], str]) -> dict[str, Column]:
    from pyspark.sql import functions as F  # noqa: N812

    return {name(index): F.count_if(value <= F.lit(edge)) for index, edge in enumerate(edges)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
