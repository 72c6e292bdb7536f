"""Rows that fail an expectation and may not go on: put aside with the reasons, or left out."""

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
class Aside:
    """A frame in two. A row that fails both a `quarantine` and a `drop` is quarantined.

    Attributes
    ----------
    kept
        The rows that go on.
    quarantined
        The rows that are put aside, with their reasons in the last column; None when no such expectation failed.
    rows_quarantined, rows_dropped
        Their numbers, by a pass over the frame.
    """

    kept: DataFrame
    quarantined: DataFrame | None
    rows_quarantined: int
    rows_dropped: int


def rows_fail(verdicts: Sequence[tuple[GatePlan, GateResult]]) -> bool:
    """Return whether an expectation failed whose rows may not go on."""
    return any(
        expectation.failing_rows != "keep" and not found.success
        for gate, result in verdicts
        for expectation, found in zip(gate.expectations, result.expectations, strict=True)
    )


def take_out(frame: DataFrame, verdicts: Sequence[tuple[GatePlan, GateResult]]) -> Aside | None:
    """Part the rows that go on from those that may not; None when all go on.

    Both parts read the frame anew, so it must give the same rows each time that it is read.

    Parameters
    ----------
    verdicts
        The gates on this frame, and what they found in it.
    """
    from pyspark.sql import functions as F  # noqa: N812

    failed: dict[str, list[tuple[str, Column]]] = {"quarantine": [], "drop": []}
    for gate, result in verdicts:
        for expectation, found in zip(gate.expectations, result.expectations, strict=True):
            if expectation.failing_rows == "keep" or found.success:
                continue
            compiled = compile_expectation(expectation, frame.schema)
            if compiled is None or compiled.failing is None:
                raise GateFailed(
                    "FS7004",
                    f"gate {gate.name} on {gate.on}: the rows that fail {expectation.type} on `{found.column}` cannot be "
                    f"told from the others, so none can be {expectation.failing_rows}d. Nothing was published.",
                    hint="Does the column have the type that the expectation is about?",
                )
            failing = F.coalesce(compiled.failing, F.lit(False))
            failed[expectation.failing_rows].append((f"{gate.name}: {expectation.type} on {found.column}", failing))
    if not rows_fail(verdicts):
        return None
    quarantine, drop = (_any([column for _, column in failed[what]]) for what in ("quarantine", "drop"))
    row = frame.agg(F.count_if(quarantine).alias("q"), F.count_if(~quarantine & drop).alias("d")).first()
    assert row is not None
    aside = None
    if failed["quarantine"]:
        reasons = F.array_compact(F.array(*(F.when(column, F.lit(text)) for text, column in failed["quarantine"])))
        aside = frame.where(quarantine).withColumn(_free(frame), reasons)
    return Aside(frame.where(~(quarantine | drop)), aside, int(row["q"]), int(row["d"]))


def _any(conditions: Sequence[Column]) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return reduce(lambda one, other: one | other, conditions, F.lit(False))


def _free(frame: DataFrame) -> str:
    """The column for the reasons: by another name where the data has that one."""
    taken = {name.lower() for name in frame.columns}
    name = REASONS
    while name in taken:
        name += "_"
    return name
