"""Profiles of columns as Spark aggregates, beside those of the compiled expectations: one pass, where the bins are known.

The first success has to find the bins, from the data: deciles come with its pass, and counts in them with a second one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from firesteel.jobs.gates.bins import DECILES, TOP, cut, edges_of, top_of
from firesteel.pipelines.profile import Profile, kind_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from firesteel.pipelines.profile import Kind

    Run = Callable[[Mapping[str, Column]], Mapping[str, Any]]
    """One pass over the frame: aggregates by name -> their values."""

ACCURACY = 10_000
"""Of Spark's percentile sketch: deciles are within a ten thousandth of the rows. Which edges are taken is free; counts are exact."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column to be measured; `bins` and `bin_rows` are those of an earlier success, None where there are none to be used."""

    on: str
    column: str
    type: str
    bins: tuple[float, ...] | None
    bin_rows: int = 0

    @property
    def kind(self) -> Kind:
        """What is counted of it."""
        return kind_of(self.type)

    def aggregates(self) -> dict[str, Column]:
        """What one pass has to find out."""
        from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

        column = F.col("`" + self.column.replace("`", "``") + "`")
        found = {self._name("rows"): F.count(F.lit(1)), self._name("values"): F.count(column)}
        if self.kind == "number":
            value = column.cast("double")
            # abs(x) < inf is false for NaN (which Spark orders above all numbers), both infinities, and null.
            finite = F.when(F.abs(value) < F.lit(math.inf), value)
            found |= {
                self._name("nans"): F.count_if(F.isnan(value)),
                self._name("mean"): F.avg(finite),
                self._name("std"): F.stddev_samp(finite),
            }
            if self.bins is None:
                found[self._name("least")] = F.min(finite)
                found[self._name("deciles")] = F.percentile_approx(finite, list(DECILES), ACCURACY)
            else:
                found |= _cumulative(self.bins, value, self._name)
        elif self.kind == "category" and self.bins is not None:
            code = F.crc32(column.cast("string").cast("binary"))
            for index, each in enumerate(self.bins):
                found[self._name(index)] = F.count_if(code == F.lit(int(each)))
        return found

    def profile(self, values: Mapping[str, Any], run: Run, frame: DataFrame, *, least_rows: int) -> Profile:
        """The profile; where it has no bins yet and enough rows for some, they are made, and counted in a second pass."""

        def of(name: str | int) -> Any:
            return values[self._name(name)]

        made = Profile(self.on, self.column, self.type, int(of("rows")), int(of("rows")) - int(of("values")))
        if made.kind == "number":
            made = replace(made, nans=int(of("nans")), mean=_finite(of("mean")), std=_finite(of("std")))
        if made.kind == "other":
            return made
        bins, bin_rows = self.bins, self.bin_rows
        if bins is None:
            if made.rows < least_rows:
                return made
            if made.kind == "category":
                return self._categories(made, frame)
            bins, bin_rows = edges_of(of("deciles") or (), of("least") if made.values else math.inf), made.values
            values = run(replace(self, bins=bins).aggregates()) if bins else values
        counted = [int(of(index)) for index in range(len(bins))]
        counts = cut(counted, made.values) if made.kind == "number" else (*counted, made.values - sum(counted))
        return replace(made, bins=bins, counts=counts, bin_rows=bin_rows)

    def _categories(self, made: Profile, frame: DataFrame) -> Profile:
        from pyspark.sql import functions as F  # noqa: N812

        column = F.col("`" + self.column.replace("`", "``") + "`")
        code = F.crc32(column.cast("string").cast("binary")).alias("code")
        counted = frame.where(column.isNotNull()).groupBy(code).agg(F.count(F.lit(1)).alias("n"))
        rows = counted.orderBy(F.col("n").desc(), F.col("code")).limit(TOP).collect()
        found = {int(row["code"]): int(row["n"]) for row in rows}
        bins = top_of(found)
        counts = [found[int(each)] for each in bins]
        return replace(made, bins=bins, counts=(*counts, made.values - sum(counts)), bin_rows=made.values)

    def _name(self, what: str | int) -> str:
        return f"drift {what} {self.column}"


def _cumulative(edges: Sequence[float], value: Column, name: Callable[[str | int], str]) -> dict[str, Column]:
    from pyspark.sql import functions as F  # noqa: N812

    return {name(index): F.count_if(value <= F.lit(edge)) for index, edge in enumerate(edges)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
