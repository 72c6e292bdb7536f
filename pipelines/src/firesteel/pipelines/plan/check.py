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
            problem = backend.check_expectation(expect.type, expect.model_extra or {})
            if problem:
                where = loaded.tree.nearest(("gates", name, "expect", index)).where
                errors.append(SpecError("FS7003", f"gates.{name}: {problem}", where=where))
    try:
        logical = analyze(loaded)
    except SpecErrors as found:
        raise SpecErrors.of([*found.errors, *errors]) from None
    if errors:
        raise SpecErrors.of(errors)
    return logical
