"""Run a gate on a frame, and say no when it fails."""

from __future__ import annotations

import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, GateFailed
from firesteel.jobs.gates import gx
from firesteel.jobs.gates.check import DRIFT, OWN, ROW_COUNT_MATCHES, check_kwargs
from firesteel.jobs.gates.compiled import Compiled, compile_expectation, one_pass
from firesteel.jobs.gates.drift import Drifts, drifts_of, least_rows, problem_of
from firesteel.jobs.gates.observe import column_of, one_line, result_of
from firesteel.jobs.gates.render import render_expected, render_observed
from firesteel.pipelines.result import Counts, ExpectationResult, GateResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame

    from firesteel.jobs.gates.measure import Wanted
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
    drifts: Drifts | None = None,
    measured: Mapping[str, Profile] = _NO_PROFILES,
    cache: bool = True,
    compiled: bool = True,
) -> GateResult:
    """Evaluate every expectation of a gate; results in the order of the plan.

    Parameters
    ----------
    row_counts
        Rows of the run's relations by name, for `row_count_matches`.
    counts
        What became of the rows of this interval, for `row_count_matches` with `less: dead_letter`.
    drifts
        What drift gates compare with; without it there is nothing earlier.
    measured
        Profiles of columns of the frame that are known already: Spark need not look at these.
    cache
        Keep the columns looked at while Great Expectations runs: it starts several jobs.
    compiled
        Evaluate common expectations in one pass of our own, with the same verdicts; False leaves all to Great Expectations.

    Raises
    ------
    GateFailed
        FS7003 when an expectation cannot be evaluated, whatever its severity: not knowing is not passing.
    """
    started = time.monotonic()
    for expectation in gate.expectations:
        problem = check_kwargs(expectation.type, dict(expectation.kwargs))
        if problem:
            raise _not_evaluated(gate, expectation, problem.rstrip("."))
    drifts = drifts or Drifts()
    wanted = _columns(gate, df, drifts, measured)
    results, profiles = _evaluated(gate, df, wanted, cache=cache, compiled=compiled)
    profiles |= measured
    for number, each in enumerate(gate.expectations):
        if each.type == DRIFT:
            results[number] = drifts.judge(each, profiles[str(dict(each.kwargs)["column"])])
    counted = [number for number, each in enumerate(gate.expectations) if each.type == ROW_COUNT_MATCHES]
    if counted:
        rows = _rows(gate, results, df)
        results |= {number: _row_count(gate, number, rows, row_counts, counts) for number in counted}
    ordered = tuple(results[number] for number in range(len(gate.expectations)))
    success = all(result.success or result.severity != "critical" for result in ordered)
    return GateResult(gate.name, gate.on, success, ordered, round(time.monotonic() - started, 3))


def raise_if_failed(result: GateResult, gate: GatePlan | None = None) -> None:
    """Refuse to go on when a critical expectation failed.

    Parameters
    ----------
    gate
        The plan of the gate: with it the message says what was expected, too.

    Raises
    ------
    GateFailed
        FS7001 with each failed expectation, observed against expected.
    """
    if result.success:
        return
    failed = [n for n, each in enumerate(result.expectations) if not each.success and each.severity == "critical"]
    lines = []
    for number in failed:
        each = result.expectations[number]
        counted = each.type == ROW_COUNT_MATCHES
        wanted = each.note if counted else render_expected(gate.expectations[number]) if gate else ""
        column = f" on {each.column}" if each.column else ""
        lines.append(f"{each.type}{column}: {render_observed(each)}" + (f", expected {wanted}" if wanted else ""))
    raise GateFailed(
        "FS7001",
        f"gate {result.gate} on {result.on}: {len(failed)} of {len(result.expectations)} expectations failed. "
        f"{'; '.join(lines)}. Nothing was published.",
        hint="Mend the data, or the expectation if it is wrong.",
    )


def _columns(gate: GatePlan, df: DataFrame, drifts: Drifts, measured: Mapping[str, Profile]) -> list[Wanted]:
    """What drift gates need to know of the frame.

    Raises
    ------
    GateFailed
        FS7003 when a column is not there, or has not what is compared.
    """
    asked = drifts_of(gate.expectations)
    if not asked:
        return []
    types = {field.name: field.dataType.simpleString() for field in df.schema.fields}
    for each in asked:
        problem = problem_of(each, types.get(str(dict(each.kwargs)["column"])))
        if problem:
            raise _not_evaluated(gate, each, problem)
    return [each for name, each in drifts.wanted(gate, types).items() if name not in measured]


def _evaluated(
    gate: GatePlan, df: DataFrame, drifting: Sequence[Wanted], *, cache: bool, compiled: bool
) -> tuple[dict[int, ExpectationResult], dict[str, Profile]]:
    """Results by the number of the expectation, and profiles by column: one pass for all that compiles.

    Great Expectations does the rest.
    """
    wanted = {number: each for number, each in enumerate(gate.expectations) if each.type not in OWN}
    found = {number: compile_expectation(each, df.schema) for number, each in wanted.items()} if compiled else {}
    ours = {number: each for number, each in found.items() if each is not None}
    raws, profiles = _one_pass(gate, df, ours, drifting) if ours or drifting else ({}, {})
    rest = {number: each for number, each in wanted.items() if number not in raws}
    raws |= zip(rest, _great_expectations(gate, df, list(rest.values()), cache=cache), strict=True)
    return {number: result_of(wanted[number], raw) for number, raw in raws.items()}, profiles


def _one_pass(
    gate: GatePlan, df: DataFrame, ours: Mapping[int, Compiled], drifting: Sequence[Wanted]
) -> tuple[dict[int, gx.RawResult], dict[str, Profile]]:
    """No results when Spark refuses: Great Expectations then says which of them it is, and why."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        with gx.quiet_spark():
            values = one_pass(df, [*(each.aggregates for each in ours.values()), *(w.aggregates() for w in drifting)])
            raws = {number: each.verdict(values) for number, each in ours.items()}
            profiles = _profiles(gate, df, drifting, values)
    except (PySparkException, Py4JError) as error:
        if not drifting:
            _log.info("gate expectations are evaluated one by one: %s", type(error).__name__)
            return {}, {}
        if not ours:
            raise _not_evaluated(gate, drifts_of(gate.expectations)[0], one_line(str(error))) from error
        return {}, _one_pass(gate, df, {}, drifting)[1]
    return {number: raw for number, raw in raws.items() if raw is not None}, profiles


def _profiles(
    gate: GatePlan, df: DataFrame, drifting: Sequence[Wanted], values: Mapping[str, object]
) -> dict[str, Profile]:
    return {
        each.column: each.profile(
            values, lambda asked: one_pass(df, [asked]), df, least_rows=least_rows(gate, each.column)
        )
        for each in drifting
    }


def _great_expectations(
    gate: GatePlan, df: DataFrame, wanted: Sequence[Expectation], *, cache: bool
) -> list[gx.RawResult]:
    if not wanted:
        return []
    from pyspark import StorageLevel

    frame = _narrow(df, wanted) if cache else df
    if cache:
        frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        raws = gx.validate(frame, wanted)
    except FiresteelError:
        raise
    except Exception as error:
        raise _not_evaluated(gate, wanted[0], one_line(str(error) or type(error).__name__)) from error
    finally:
        if cache:
            frame.unpersist()
    for expectation, raw in zip(wanted, raws, strict=True):
        if raw.cause:
            raise _not_evaluated(gate, expectation, one_line(raw.cause))
    return raws


def _narrow(df: DataFrame, expectations: Sequence[Expectation]) -> DataFrame:
    """Only the columns looked at, so that a cached pass over a wide frame stays small; all when that is not clear."""
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
        whole = "row_condition" not in dict(gate.expectations[number].kwargs)
        if whole and result.element_count is not None:
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
        raise _not_evaluated(gate, expectation, f"the rows of `{relation}` were not counted (counted: {known})")
    less = counts.dead_letter if kwargs.get("less") == "dead_letter" else 0
    wanted = row_counts[relation] - less
    minus = f" - {less:,} dead letter" if kwargs.get("less") else ""
    return ExpectationResult(
        type=expectation.type,
        column="",
        severity=expectation.severity,
        success=rows == wanted,
        observed=rows,
        note=f"{wanted:,} rows" + (f" ({relation} {row_counts[relation]:,}{minus})" if minus else f" ({relation})"),
    )


def _not_evaluated(gate: GatePlan, expectation: Expectation, cause: str) -> GateFailed:
    column = column_of(dict(expectation.kwargs))
    place = f" on `{column}`" if column else ""
    named = cause.removeprefix(f"{expectation.type}: ")
    return GateFailed(
        "FS7003",
        f"gate {gate.name} on {gate.on}: {expectation.type}{place} could not be evaluated: {named}. "
        "Nothing was published.",
        hint="Check the expectation's type, arguments and column.",
    )
