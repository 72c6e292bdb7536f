"""Evaluate drift expectations: compare a column with its profile at the last success of the sink."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firesteel.jobs.gates.check import DRIFT
from firesteel.jobs.gates.measure import Measurement
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
    """The profile of a column at the last success, and the interval of that success."""

    profile: Profile
    interval: str


@dataclass(frozen=True, slots=True)
class NoBaseline:
    """The reason why a column has no baseline."""

    reason: str


BaselineLookup = Callable[[str, str], "Baseline | NoBaseline"]
"""Returns the baseline of (relation, column)."""


def no_baseline(_on: str, _column: str) -> NoBaseline:
    """Return that no earlier success is known, the default."""
    return NoBaseline("no earlier success is known")


@dataclass(slots=True)
class DriftChecks:
    """The drift checks of one interval.

    Attributes
    ----------
    baseline
        Looks up the baseline of a column.
    profiles
        Measured profiles. They become the baseline of the next interval if this interval is published.
    """

    baseline: BaselineLookup = no_baseline
    profiles: dict[tuple[str, str], Profile] = field(default_factory=dict)

    def measurements(self, gate: GatePlan, types: Mapping[str, str]) -> dict[str, Measurement]:
        """Return the columns of a gate to measure, with the bins of the baseline if they are usable.

        Parameters
        ----------
        types
            Spark SQL types of the columns.
        """
        measurements: dict[str, Measurement] = {}
        for expectation in drift_expectations(gate.expectations):
            column = str(dict(expectation.kwargs)["column"])
            if column not in measurements and column in types:
                baseline_profile = self._usable(gate.on, column, types[column])
                usable = baseline_profile is not None and baseline_profile.bin_rows >= least_rows(gate, column)
                measurements[column] = Measurement(
                    gate.on,
                    column,
                    types[column],
                    baseline_profile.bins if baseline_profile is not None and usable else None,
                    baseline_profile.bin_rows if baseline_profile is not None else 0,
                )
        return measurements

    def _usable(self, on: str, column: str, type_: str) -> Profile | None:
        baseline = self.baseline(on, column)
        same = isinstance(baseline, Baseline) and baseline.profile.kind == Measurement(on, column, type_, None).kind
        return baseline.profile if same and isinstance(baseline, Baseline) else None

    def judge(self, expectation: Expectation, current: Profile) -> ExpectationResult:
        """Return the verdict on one expectation, and store the profile if it has enough rows."""
        limits: dict[str, Any] = dict(expectation.kwargs)
        if current.rows >= limits["rows_min"]:
            self.profiles[current.on, current.column] = current
        baseline = self.baseline(current.on, current.column)
        if isinstance(baseline, NoBaseline):
            return _result(expectation, current, f"no baseline: {baseline.reason}")
        baseline_profile = baseline.profile
        if baseline_profile.kind != current.kind:
            note = f"no baseline: the type was {baseline_profile.type} in {baseline.interval} and is {current.type}"
            return _result(expectation, current, note)
        for rows, when in ((current.rows, "in this interval"), (baseline_profile.rows, f"in {baseline.interval}")):
            if rows < limits["rows_min"]:
                note = f"not compared: {rows:,} rows {when}, fewer than {limits['rows_min']:,}"
                return _result(expectation, current, note)
        drift = differences(baseline_profile, current)
        exceeded = [name for name, value in _measured(drift, limits) if value > limits[name]]
        return ExpectationResult(
            type=DRIFT,
            column=current.column,
            severity=expectation.severity,
            success=not exceeded,
            observed=_json(drift),
            note="; ".join([f"baseline {baseline.interval}", *(_exceeded(name) for name in exceeded)]),
        )


def drift_expectations(expectations: Iterable[Expectation]) -> list[Expectation]:
    """Return the drift expectations."""
    return [expectation for expectation in expectations if expectation.type == DRIFT]


def least_rows(gate: GatePlan, column: str) -> int:
    """Return the smallest `rows_min` of the gate's drift expectations on the column."""
    arguments = [dict(expectation.kwargs) for expectation in drift_expectations(gate.expectations)]
    return min((int(str(kwargs["rows_min"])) for kwargs in arguments if kwargs["column"] == column), default=0)


def comparison_problem(expectation: Expectation, type_: str | None) -> str | None:
    """Return why a column cannot be compared, or None if it can. `type_` is None if the column does not exist."""
    if type_ is None:
        return "the column does not exist"
    problem = drift_problem(type_, {name: value for name, value in expectation.kwargs if name in LIMITS})
    return problem.rstrip(".") if problem else None


def differences(baseline: Profile, current: Profile) -> dict[str, float | int | None]:
    """Return the drift metrics of a column.

    `psi` covers the bins, NaNs and nulls. If the bins differ, it covers only values, NaNs and nulls. `mean_shift` is in standard
    deviations of the baseline, and infinite if only one side has a mean.
    """
    metrics: dict[str, float | int | None] = {}
    if current.kind != "other":
        bins = baseline.bins == current.bins and len(baseline.counts) == len(current.counts) > 0
        metrics["psi"] = psi(*(_in_bins(profile, bins=bins) for profile in (baseline, current)))
    rates = [profile.nulls / profile.rows if profile.rows else 0.0 for profile in (baseline, current)]
    metrics |= {"null_rate": rates[1], "null_rate_was": rates[0]}
    if current.kind == "number":
        metrics |= {"mean": current.mean, "mean_was": baseline.mean, "mean_shift": _shift(baseline, current)}
    return metrics | {"rows": current.rows, "rows_was": baseline.rows}


def _in_bins(profile: Profile, *, bins: bool) -> tuple[int, ...]:
    return (*(profile.counts if bins else (profile.values,)), profile.nans, profile.nulls)


def _shift(baseline: Profile, current: Profile) -> float | None:
    if baseline.mean is None or current.mean is None:
        return None if baseline.mean is current.mean else math.inf
    distance = abs(current.mean - baseline.mean)
    if distance <= _SAME * max(abs(current.mean), abs(baseline.mean)):
        return 0.0
    return distance / baseline.std if baseline.std else math.inf


def _measured(metrics: Mapping[str, float | int | None], limits: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return (limit name, metric) for each metric that has a limit."""
    change = abs(float(metrics["null_rate"] or 0) - float(metrics["null_rate_was"] or 0))
    values = {
        "psi_max": metrics.get("psi"),
        "null_rate_max_change": change,
        "mean_shift_max": metrics.get("mean_shift"),
    }
    return [
        (name, float(value)) for name, value in values.items() if value is not None and limits.get(name) is not None
    ]


def _exceeded(limit: str) -> str:
    return {
        "psi_max": "PSI above limit",
        "null_rate_max_change": "null rate change above limit",
        "mean_shift_max": "mean shift above limit",
    }[limit]


def _result(expectation: Expectation, profile: Profile, note: str) -> ExpectationResult:
    """Return a passed result with the reason why nothing was compared."""
    observed: dict[str, JsonValue] = {"rows": profile.rows}
    return ExpectationResult(DRIFT, profile.column, expectation.severity, success=True, observed=observed, note=note)


def _json(metrics: Mapping[str, float | int | None]) -> JsonValue:
    """Round to six digits and write infinity as text, which JSON lacks as a number."""
    return {
        name: "Infinity" if value == math.inf else float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in metrics.items()
    }
