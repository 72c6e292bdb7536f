"""Split a relation into the rows that pass its gates and the rows that the gates exclude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from firesteel.conf.errors import GateFailed
from firesteel.jobs.gates.compiled import compile_expectation

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from firesteel.pipelines.plan.model import GatePlan
    from firesteel.pipelines.result import GateResult

REASONS = "_reasons"
"""Column of a quarantined row: `GATE: EXPECTATION on COLUMN` of each expectation that it fails."""


@dataclass(frozen=True, slots=True)
class SplitRows:
    """A frame in two parts. A row that fails both a `quarantine` and a `drop` expectation is quarantined.

    Attributes
    ----------
    passing
        The rows that later steps read.
    quarantined
        The quarantined rows, with their reasons in the last column; None when no `quarantine` expectation failed.
    rows_quarantined, rows_dropped
        Their numbers, counted in one pass over the frame.
    """

    passing: DataFrame
    quarantined: DataFrame | None
    rows_quarantined: int
    rows_dropped: int


def rows_fail(verdicts: Sequence[tuple[GatePlan, GateResult]]) -> bool:
    """Return whether an expectation failed that excludes rows."""
    return any(
        expectation.failing_rows != "keep" and not found.success
        for gate, result in verdicts
        for expectation, found in zip(gate.expectations, result.expectations, strict=True)
    )


def split_rows(frame: DataFrame, verdicts: Sequence[tuple[GatePlan, GateResult]]) -> SplitRows:
    """Split the rows of a frame by the failed expectations that exclude rows.

    Each part reads the frame again, so the frame must return the same rows each time.

    Parameters
    ----------
    verdicts
        The gates on the frame, and their results.
    """
    from pyspark.sql import functions as F  # noqa: N812

    failed: dict[str, list[tuple[str, Column]]] = {"quarantine": [], "drop": []}
    for gate, result in verdicts:
        for expectation, found in zip(gate.expectations, result.expectations, strict=True):
            if expectation.failing_rows == "keep" or found.success:
                continue
            compiled = compile_expectation(expectation, frame.schema)
            if compiled is None or compiled.failing is None:
                excluded = {"quarantine": "quarantined", "drop": "dropped"}[expectation.failing_rows]
                raise GateFailed(
                    "FS7004",
                    f"gate {gate.name} on {gate.on}: the rows that fail {expectation.type} on `{found.column}` cannot be "
                    f"identified, so none can be {excluded}. Nothing was published.",
                    hint="Check that the column has the type that the expectation checks.",
                )
            failing = F.coalesce(compiled.failing, F.lit(False))
            failed[expectation.failing_rows].append((f"{gate.name}: {expectation.type} on {found.column}", failing))
    quarantine, drop = (_any([column for _, column in failed[what]]) for what in ("quarantine", "drop"))
    row = frame.agg(F.count_if(quarantine).alias("q"), F.count_if(~quarantine & drop).alias("d")).first()
    assert row is not None
    quarantined = None
    if failed["quarantine"]:
        reasons = F.array_compact(F.array(*(F.when(column, F.lit(text)) for text, column in failed["quarantine"])))
        quarantined = frame.where(quarantine).withColumn(_reasons_column(frame), reasons)
    return SplitRows(frame.where(~(quarantine | drop)), quarantined, int(row["q"]), int(row["d"]))


def _any(conditions: Sequence[Column]) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return reduce(lambda one, other: one | other, conditions, F.lit(False))


def _reasons_column(frame: DataFrame) -> str:
    """Return the name of the column of reasons: `_reasons`, with more underscores where the data has such a column."""
    taken = {name.lower() for name in frame.columns}
    name = REASONS
    while name in taken:
        name += "_"
    return name
