"""Evaluate a gate on a frame, and raise an error if the gate fails."""

from __future__ import annotations

import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, GateFailed
from firesteel.jobs.gates import gx
from firesteel.jobs.gates.check import DRIFT, OWN, ROW_COUNT_MATCHES, check_kwargs
from firesteel.jobs.gates.compiled import Compiled, compile_expectation, one_pass
from firesteel.jobs.gates.drift import DriftChecks, comparison_problem, drift_expectations, least_rows
from firesteel.jobs.gates.observe import column_of, one_line, result_of
from firesteel.jobs.gates.render import render_expected, render_observed
from firesteel.pipelines.result import Counts, ExpectationResult, GateResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame

    from firesteel.jobs.gates.measure import Measurement
    from firesteel.pipelines.plan.model import Expectation, GatePlan
    from firesteel.pipelines.profile import Profile

_log = logging.getLogger(__name__)

_NOTHING = MappingProxyType[str, int]({})
_NO_COUNTS = Counts()
_NO_PROFILES = MappingProxyType["str", "Profile"]({})


def run_gate(
    gate: GatePlan,
    df: DataFrame,
    *,
    row_counts: Mapping[str, int] = _NOTHING,
    counts: Counts = _NO_COUNTS,
    drifts: DriftChecks | None = None,
    measured: Mapping[str, Profile] = _NO_PROFILES,
    cache: bool = True,
    compiled: bool = True,
) -> GateResult:
    """Evaluate the expectations of a gate, and return the results in plan order.

    Parameters
    ----------
    row_counts
        Rows of the run's relations by name, for `row_count_matches`.
    counts
        Row counts of the interval, for `row_count_matches` with `less: dead_letter`.
    drifts
        Baselines of drift expectations. Without it, there are no baselines.
    measured
        Profiles of the frame's columns that are already known. Spark does not measure them again.
    cache
        Cache the checked columns while Great Expectations runs, because it starts several jobs.
    compiled
        Evaluate common expectations in one Spark job with the same verdicts. If False, Great Expectations evaluates all.

    Raises
    ------
    GateFailed
        FS7003 if an expectation cannot be evaluated, regardless of its severity.
    """
    started = time.monotonic()
    for expectation in gate.expectations:
        problem = check_kwargs(expectation.type, dict(expectation.kwargs))
        if problem:
            raise _not_evaluated(gate, expectation, problem.rstrip("."))
    drifts = drifts or DriftChecks()
    measurements = _measurements(gate, df, drifts, measured)
    results, profiles = _evaluate(gate, df, measurements, cache=cache, compiled=compiled)
    profiles |= measured
    for number, expectation in enumerate(gate.expectations):
        if expectation.type == DRIFT:
            results[number] = drifts.judge(expectation, profiles[str(dict(expectation.kwargs)["column"])])
    row_count_checks = [number for number, check in enumerate(gate.expectations) if check.type == ROW_COUNT_MATCHES]
    if row_count_checks:
        rows = _rows(gate, results, df)
        results |= {number: _row_count(gate, number, rows, row_counts, counts) for number in row_count_checks}
    ordered = tuple(results[number] for number in range(len(gate.expectations)))
    success = all(result.success or result.severity != "critical" for result in ordered)
    return GateResult(gate.name, gate.on, success, ordered, round(time.monotonic() - started, 3))


def raise_if_failed(result: GateResult, gate: GatePlan | None = None) -> None:
    """Raise an error if a critical expectation failed.

    Parameters
    ----------
    gate
        The plan of the gate. With it, the message includes the expected values.

    Raises
    ------
    GateFailed
        FS7001 with the observed and expected values of each failed expectation.
    """
    if result.success:
        return
    failed = [
        number for number, check in enumerate(result.expectations) if not check.success and check.severity == "critical"
    ]
    lines = []
    for number in failed:
        expectation = result.expectations[number]
        is_row_count = expectation.type == ROW_COUNT_MATCHES
        expected = expectation.note if is_row_count else render_expected(gate.expectations[number]) if gate else ""
        column = f" on {expectation.column}" if expectation.column else ""
        lines.append(
            f"{expectation.type}{column}: {render_observed(expectation)}"
            + (f", expected {expected}" if expected else "")
        )
    raise GateFailed(
        "FS7001",
        f"gate {result.gate} on {result.on}: {len(failed)} of {len(result.expectations)} expectations failed. "
        f"{'; '.join(lines)}. Nothing was published.",
        hint="Fix the data, or correct the expectation.",
    )


def _measurements(
    gate: GatePlan, df: DataFrame, drifts: DriftChecks, measured: Mapping[str, Profile]
) -> list[Measurement]:
    """Return the columns that drift expectations measure.

    Raises
    ------
    GateFailed
        FS7003 if a column does not exist or its type does not support the comparison.
    """
    expectations = drift_expectations(gate.expectations)
    if not expectations:
        return []
    types = {field.name: field.dataType.simpleString() for field in df.schema.fields}
    for expectation in expectations:
        problem = comparison_problem(expectation, types.get(str(dict(expectation.kwargs)["column"])))
        if problem:
            raise _not_evaluated(gate, expectation, problem)
    return [column for name, column in drifts.measurements(gate, types).items() if name not in measured]


def _evaluate(
    gate: GatePlan, df: DataFrame, measurements: Sequence[Measurement], *, cache: bool, compiled: bool
) -> tuple[dict[int, ExpectationResult], dict[str, Profile]]:
    """Return results by expectation number and profiles by column.

    One Spark job evaluates the compiled expectations. Great Expectations evaluates the others.
    """
    expectations = {
        number: expectation for number, expectation in enumerate(gate.expectations) if expectation.type not in OWN
    }
    candidates = (
        {number: compile_expectation(expectation, df.schema) for number, expectation in expectations.items()}
        if compiled
        else {}
    )
    compiled_expectations = {number: candidate for number, candidate in candidates.items() if candidate is not None}
    raws, profiles = (
        _one_pass(gate, df, compiled_expectations, measurements) if compiled_expectations or measurements else ({}, {})
    )
    remaining = {number: expectation for number, expectation in expectations.items() if number not in raws}
    raws |= zip(remaining, _great_expectations(gate, df, list(remaining.values()), cache=cache), strict=True)
    return {number: result_of(expectations[number], raw) for number, raw in raws.items()}, profiles


def _one_pass(
    gate: GatePlan, df: DataFrame, compiled: Mapping[int, Compiled], measurements: Sequence[Measurement]
) -> tuple[dict[int, gx.RawResult], dict[str, Profile]]:
    """Evaluate compiled expectations and measurements in one job.

    If Spark fails, return no results, so that Great Expectations identifies the failing expectation.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        with gx.quiet_spark():
            values = one_pass(
                df,
                [*(check.aggregates for check in compiled.values()), *(column.aggregates() for column in measurements)],
            )
            raws = {number: check.verdict(values) for number, check in compiled.items()}
            profiles = _profiles(gate, df, measurements, values)
    except (PySparkException, Py4JError) as error:
        if not measurements:
            _log.info(
                "Spark cannot evaluate the compiled expectations in one job (%s); Great Expectations evaluates them one by one",
                type(error).__name__,
            )
            return {}, {}
        if not compiled:
            raise _not_evaluated(gate, drift_expectations(gate.expectations)[0], one_line(str(error))) from error
        return {}, _one_pass(gate, df, {}, measurements)[1]
    return {number: raw for number, raw in raws.items() if raw is not None}, profiles


def _profiles(
    gate: GatePlan, df: DataFrame, measurements: Sequence[Measurement], values: Mapping[str, object]
) -> dict[str, Profile]:
    return {
        measurement.column: measurement.profile(
            values, lambda aggregates: one_pass(df, [aggregates]), df, least_rows=least_rows(gate, measurement.column)
        )
        for measurement in measurements
    }


def _great_expectations(
    gate: GatePlan, df: DataFrame, expectations: Sequence[Expectation], *, cache: bool
) -> list[gx.RawResult]:
    if not expectations:
        return []
    from pyspark import StorageLevel

    frame = _narrow(df, expectations) if cache else df
    if cache:
        frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        raws = gx.validate(frame, expectations)
    except FiresteelError:
        raise
    except Exception as error:
        raise _not_evaluated(gate, expectations[0], one_line(str(error) or type(error).__name__)) from error
    finally:
        if cache:
            frame.unpersist()
    for expectation, raw in zip(expectations, raws, strict=True):
        if raw.cause:
            raise _not_evaluated(gate, expectation, one_line(raw.cause))
    return raws


def _narrow(df: DataFrame, expectations: Sequence[Expectation]) -> DataFrame:
    """Select only the checked columns to keep the cache small. Return the whole frame if the columns are not certain."""
    needed: set[str] = set()
    for expectation in expectations:
        kwargs = dict(expectation.kwargs)
        columns = column_of(kwargs)
        if not columns or kwargs.get("row_condition") is not None:
            return df
        needed.update(columns.split(", "))
    if not needed.issubset(df.columns):
        return df
    return df.select([f"`{name}`" for name in df.columns if name in needed])


def _rows(gate: GatePlan, results: Mapping[int, ExpectationResult], df: DataFrame) -> int:
    for number, result in results.items():
        counts_all_rows = "row_condition" not in dict(gate.expectations[number].kwargs)
        if counts_all_rows and result.element_count is not None:
            return result.element_count
    return df.count()


def _row_count(
    gate: GatePlan, number: int, rows: int, row_counts: Mapping[str, int], counts: Counts
) -> ExpectationResult:
    expectation = gate.expectations[number]
    kwargs = dict(expectation.kwargs)
    relation = str(kwargs["of"])
    if relation not in row_counts:
        known = ", ".join(sorted(row_counts)) or "none"
        raise _not_evaluated(gate, expectation, f"there is no row count of `{relation}` (available: {known})")
    dead_letters = counts.dead_letter if kwargs.get("less") == "dead_letter" else 0
    expected = row_counts[relation] - dead_letters
    difference = f" - {dead_letters:,} dead letters" if kwargs.get("less") else ""
    return ExpectationResult(
        type=expectation.type,
        column="",
        severity=expectation.severity,
        success=rows == expected,
        observed=rows,
        note=f"{expected:,} rows"
        + (f" ({relation} {row_counts[relation]:,}{difference})" if difference else f" ({relation})"),
    )


def _not_evaluated(gate: GatePlan, expectation: Expectation, cause: str) -> GateFailed:
    column = column_of(dict(expectation.kwargs))
    location = f" on `{column}`" if column else ""
    reason = cause.removeprefix(f"{expectation.type}: ")
    return GateFailed(
        "FS7003",
        f"gate {gate.name} on {gate.on}: {expectation.type}{location} cannot be evaluated: {reason}. "
        "Nothing was published.",
        hint=f"Correct its type, its arguments or its column under `gates.{gate.name}.expect`.",
    )
