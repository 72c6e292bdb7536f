"""Everything that can be known without models and data: what `firesteel validate` does."""

from __future__ import annotations

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors
from firesteel.pipelines.backend import Backend
from firesteel.pipelines.plan.logical import Logical, analyze
from firesteel.pipelines.spec.load import LoadedSpec


def check(loaded: LoadedSpec, backend: Backend) -> Logical:
    """Everything that can be known without models and data: what `firesteel validate` does.

    Raises
    ------
    SpecErrors
        All of it at once.
    """
    errors: list[FiresteelError] = list(loaded.errors)
    for name, gate in loaded.spec.gates.items():
        for index, expect in enumerate(gate.expect):
            kwargs = expect.model_extra or {}
            where = loaded.tree.nearest(("gates", name, "expect", index)).where
            if problem := backend.check_expectation(expect.type, kwargs):
                errors.append(SpecError("FS7003", f"gates.{name}: {problem}", where=where))
            elif expect.takes_rows_out and (problem := backend.check_failing_rows(expect.type, kwargs)):
                hint = "Use `on_fail: fail` or `warn`, or an expectation on each value of a column."
                errors.append(
                    SpecError("FS7004", f"gates.{name}: cannot {expect.on_fail}: {problem}", where=where, hint=hint)
                )
    try:
        logical = analyze(loaded)
    except SpecErrors as found:
        raise SpecErrors.of([*found.errors, *errors]) from None
    if errors:
        raise SpecErrors.of(errors)
    return logical
