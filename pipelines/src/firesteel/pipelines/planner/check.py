"""Check a spec without models and data, as `firesteel validate` does."""

from __future__ import annotations

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors
from firesteel.pipelines.analysis import Analysis, analyze_with_errors
from firesteel.pipelines.backend import Backend
from firesteel.pipelines.plan.locations import location_errors
from firesteel.pipelines.plan.overlaps import overlap_errors
from firesteel.pipelines.plan.security import security_errors
from firesteel.pipelines.plan.settings import setting_errors
from firesteel.pipelines.planner.templates import template_errors
from firesteel.pipelines.profile import kind_of
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import Drift
from firesteel.pipelines.sql.select import UNKNOWN


def check(loaded: LoadedSpec, backend: Backend) -> Analysis:
    """Return the analysis of a spec, checked without models and data.

    Raises
    ------
    SpecErrors
        All errors together.
    """
    analysis, analysis_errors = analyze_with_errors(loaded)
    errors = [*analysis_errors, *security_errors(loaded), *setting_errors(loaded), *location_errors(loaded)]
    errors += overlap_errors(loaded)
    errors += template_errors(loaded, analysis)
    for name, gate in loaded.spec.gates.items():
        for index, expect in enumerate(gate.expect):
            kwargs = expect.arguments
            where = loaded.tree.nearest(("gates", name, "expect", index)).where
            if problem := backend.check_expectation(expect.type, kwargs):
                errors.append(SpecError("FS7003", f"gates.{name}.expect.{index}: {problem}", where=where))
            elif expect.excludes_rows and (problem := backend.check_failing_rows(expect.type, kwargs)):
                hint = "Use `on_fail: fail` or `warn`, or an expectation on each value of a column."
                errors.append(
                    SpecError(
                        "FS7004",
                        f"gates.{name}.expect.{index}: cannot {expect.on_fail}: {problem}",
                        where=where,
                        hint=hint,
                    )
                )
    errors += _drift(loaded, analysis)
    errors = [*loaded.errors, *loaded.root_causes(errors)]
    if errors:
        raise SpecErrors.of(errors)
    return analysis


def _drift(loaded: LoadedSpec, analysis: Analysis) -> list[FiresteelError]:
    """Return FS7003 for each drift gate that cannot compare its column."""
    errors: list[FiresteelError] = []
    for name, gate in loaded.spec.gates.items():
        sink = loaded.spec.sinks.get(gate.on.removeprefix("sink:")) if gate.on.startswith("sink:") else None
        relation = analysis.relations.get(sink.from_ if sink else gate.on, ())
        types = {column.name: column.type for column in relation}
        for index, expect in enumerate(gate.expect):
            type_ = types.get(str(expect.arguments.get("column")), UNKNOWN)
            if not isinstance(expect, Drift) or type_ == UNKNOWN:
                continue
            if problem := drift_problem(type_, expect.arguments):
                where = loaded.tree.nearest(("gates", name, "expect", index)).where
                errors.append(
                    SpecError(
                        "FS7003", f"gates.{name}.expect.{index}: drift on `{expect.column}`: {problem}", where=where
                    )
                )
    return errors


def drift_problem(type_: str, limits: dict[str, object]) -> str | None:
    """Return why these limits cannot apply to a column type; None if they can.

    Examples
    --------
    >>> drift_problem("string", {"mean_shift_max": 1.0})
    'a string has no mean; remove `mean_shift_max`.'
    """
    kind = kind_of(type_)
    if kind == "other" and "psi_max" in limits:
        return f"type {type_} supports only `null_rate_max_change`; remove `psi_max`."
    if kind != "number" and "mean_shift_max" in limits:
        return f"a {type_} has no mean; remove `mean_shift_max`."
    return None
