"""The drift gate: the profile of a column, compared with the profile of the same column in the last published interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firesteel.jobs.gates.check import DRIFT
from firesteel.jobs.gates.measure import Wanted
from firesteel.jobs.gates.psi import psi
from firesteel.pipelines.planner.check import drift_problem
from firesteel.pipelines.result import ExpectationResult

if TYPE_CHECKING:
    from pydantic import JsonValue

    from firesteel.pipelines.plan.model import Expectation, GatePlan
    from firesteel.pipelines.profile import Profile

LIMITS = ("psi_max", "null_rate_max_change", "mean_shift_max")
_SAME = 1e-9
"""Relative difference of two means of the same values, summed in another order."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The profile that a column is compared with, and the interval that it was published with."""

    profile: Profile
    interval: str


@dataclass(frozen=True, slots=True)
class NoBaseline:
    """The reason why there is nothing to compare a column with, as a phrase."""

    reason: str


BaselineOf = Callable[[str, str], "Baseline | NoBaseline"]
"""(relation, column) -> the baseline of the column."""


def no_baseline(_on: str, _column: str) -> NoBaseline:
    """Return that no published interval is known: the default."""
    return NoBaseline("no earlier success is known here")


@dataclass(slots=True)
class Drifts:
    """The baselines of the drift gates of one interval, and the profiles that they measure.

    Attributes
    ----------
    profiles
        Published with the interval: the baselines of the next one.
    """

    baseline_of: BaselineOf = no_baseline
    profiles: dict[tuple[str, str], Profile] = field(default_factory=dict)

    def wanted(self, gate: GatePlan, types: Mapping[str, str]) -> dict[str, Wanted]:
        """The columns of a gate to be measured, each once, with the bins of the last success where they can be used.

        Parameters
        ----------
        types
            Spark SQL types of the columns that there are.
        """
        found: dict[str, Wanted] = {}
        for each in drifts_of(gate.expectations):
            column = str(dict(each.kwargs)["column"])
            if column not in found and column in types:
                then = self._usable(gate.on, column, types[column])
                usable = then is not None and then.bin_rows >= least_rows(gate, column)
                found[column] = Wanted(
                    gate.on,
                    column,
                    types[column],
                    then.bins if then is not None and usable else None,
                    then.bin_rows if then is not None else 0,
                )
        return found

    def _usable(self, on: str, column: str, type_: str) -> Profile | None:
        then = self.baseline_of(on, column)
        if isinstance(then, NoBaseline) or then.profile.kind != Wanted(on, column, type_, None).kind:
            return None
        return then.profile

    def judge(self, expectation: Expectation, now: Profile) -> ExpectationResult:
        """The verdict on one expectation, from what was measured. A profile of enough rows is kept."""
        limits: dict[str, Any] = dict(expectation.kwargs)
        if now.rows >= limits["rows_min"]:
            self.profiles[now.on, now.column] = now
        then = self.baseline_of(now.on, now.column)
        if isinstance(then, NoBaseline):
            return _result(expectation, now, f"nothing to compare with: {then.reason}")
        was = then.profile
        if was.kind != now.kind:
            what = f"nothing to compare with: {was.type} in {then.interval}, {now.type} now"
            return _result(expectation, now, what)
        for rows, when in ((now.rows, "now"), (was.rows, f"in {then.interval}")):
            if rows < limits["rows_min"]:
                few = f"not compared: {rows:,} rows {when}, fewer than {limits['rows_min']:,}"
                return _result(expectation, now, few)
        found = differences(was, now)
        passed_over = [name for name, value in _measured(found, limits) if value > limits[name]]
        return ExpectationResult(
            type=DRIFT,
            column=now.column,
            severity=expectation.severity,
            success=not passed_over,
            observed=_json(found),
            note="; ".join([f"against {then.interval}", *(_over(name) for name in passed_over)]),
        )


def drifts_of(expectations: Iterable[Expectation]) -> list[Expectation]:
    """The drift expectations among them."""
    return [each for each in expectations if each.type == DRIFT]


def least_rows(gate: GatePlan, column: str) -> int:
    """The fewest rows with which some drift expectation of the gate compares the column."""
    floors = [dict(each.kwargs) for each in drifts_of(gate.expectations)]
    return min((int(str(each["rows_min"])) for each in floors if each["column"] == column), default=0)


def problem_of(expectation: Expectation, type_: str | None) -> str | None:
    """Why a column cannot be compared; None when it can. `type_` is None where there is no such column."""
    if type_ is None:
        return "there is no such column"
    problem = drift_problem(type_, {name: value for name, value in expectation.kwargs if name in LIMITS})
    return problem.rstrip(".") if problem else None


def differences(was: Profile, now: Profile) -> dict[str, float | int | None]:
    """How far a column has moved, in numbers.

    `psi` is over the bins with nulls and NaNs as bins of their own, and over values, nulls and NaNs alone where the bins are not
    the same. `mean_shift` is in standard deviations of then; infinite where there is a mean on one side only.
    """
    found: dict[str, float | int | None] = {}
    if now.kind != "other":
        bins = was.bins == now.bins and len(was.counts) == len(now.counts) > 0
        found["psi"] = psi(*(_in_bins(each, bins=bins) for each in (was, now)))
    rates = [each.nulls / each.rows if each.rows else 0.0 for each in (was, now)]
    found |= {"null_rate": rates[1], "null_rate_was": rates[0]}
    if now.kind == "number":
        found |= {"mean": now.mean, "mean_was": was.mean, "mean_shift": _shift(was, now)}
    return found | {"rows": now.rows, "rows_was": was.rows}


def _in_bins(profile: Profile, *, bins: bool) -> tuple[int, ...]:
    return (*(profile.counts if bins else (profile.values,)), profile.nans, profile.nulls)


def _shift(was: Profile, now: Profile) -> float | None:
    if was.mean is None or now.mean is None:
        return None if was.mean is now.mean else math.inf
    moved = abs(now.mean - was.mean)
    if moved <= _SAME * max(abs(now.mean), abs(was.mean)):
        return 0.0
    return moved / was.std if was.std else math.inf


def _measured(found: Mapping[str, float | int | None], limits: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What there is a limit for, beside its limit's name."""
    change = abs(float(found["null_rate"] or 0) - float(found["null_rate_was"] or 0))
    values = {"psi_max": found.get("psi"), "null_rate_max_change": change, "mean_shift_max": found.get("mean_shift")}
    return [
        (name, float(value)) for name, value in values.items() if value is not None and limits.get(name) is not None
    ]


def _over(limit: str) -> str:
    return {
        "psi_max": "its distribution has drifted",
        "null_rate_max_change": "its nulls have changed",
        "mean_shift_max": "its mean has shifted",
    }[limit]


def _result(expectation: Expectation, now: Profile, note: str) -> ExpectationResult:
    """Passed, with the reason why nothing was compared."""
    observed: dict[str, JsonValue] = {"rows": now.rows}
    return ExpectationResult(DRIFT, now.column, expectation.severity, success=True, observed=observed, note=note)


def _json(found: Mapping[str, float | int | None]) -> JsonValue:
    """Six digits; an infinite shift as text, since JSON has no infinity."""
    return {
        name: "Infinity" if value == math.inf else float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in found.items()
    }
