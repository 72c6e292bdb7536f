"""Gates in lineage: as tests of the run, and as assertions on the data set that they look at.

Of what was observed only numbers are sent: a list of unexpected values is rows, and rows stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from openlineage.client.generated.data_quality_assertions_dataset import Assertion, DataQualityAssertionsDatasetFacet
from openlineage.client.generated.test_run import TestExecution, TestRunFacet

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import ExpectationResult, GateResult

_SEVERITY = {"critical": "error", "warning": "warn"}


def verdicts(plan: Plan, gates: Iterable[GateResult]) -> TestRunFacet | None:
    """All expectations of a run; None where there are none."""
    found = [
        TestExecution(
            name=_name(gate, each),
            status="pass" if each.success else "fail",
            severity=_SEVERITY.get(each.severity),
            type=each.type,
            expected=asked,
            actual=_actual(each),
            params=_counts(each),
        )
        for gate in gates
        for each, asked in _with_asked(plan, gate)
    ]
    return TestRunFacet(found) if found else None


def assertions(plan: Plan, gates: Iterable[GateResult], on: str) -> DataQualityAssertionsDatasetFacet | None:
    """The expectations on one source, or on `sink:NAME`; None where there are none."""
    found = [
        Assertion(
            assertion=each.type,
            success=each.success,
            column=each.column or None,
            severity=_SEVERITY.get(each.severity),
            name=_name(gate, each),
            expected=asked,
            actual=_actual(each),
            params=_counts(each),
        )
        for gate in gates
        if gate.on == on
        for each, asked in _with_asked(plan, gate)
    ]
    return DataQualityAssertionsDatasetFacet(found) if found else None


def rows_seen(gates: Iterable[GateResult], on: str) -> int | None:
    """How many rows of a relation its gates counted, where one counted them."""
    counts = (each.element_count for gate in gates if gate.on == on for each in gate.expectations)
    return max((count for count in counts if count is not None), default=None)


def _with_asked(plan: Plan, gate: GateResult) -> Iterator[tuple[ExpectationResult, str | None]]:
    """Each verdict with the arguments that the plan gave the expectation, as JSON."""
    planned = next((each.expectations for each in plan.gates if each.name == gate.gate), ())
    for index, result in enumerate(gate.expectations):
        kwargs = dict(planned[index].kwargs) if index < len(planned) and planned[index].type == result.type else {}
        kwargs.pop("column", None)
        yield result, json.dumps(kwargs, sort_keys=True, ensure_ascii=False) if kwargs else None


def _name(gate: GateResult, each: ExpectationResult) -> str:
    return f"{gate.gate}.{each.type}({each.column})"


def _actual(each: ExpectationResult) -> str | None:
    return str(each.observed) if isinstance(each.observed, int | float) else None


def _counts(each: ExpectationResult) -> dict[str, int]:
    counts = {"element_count": each.element_count, "unexpected_count": each.unexpected_count}
    return {name: count for name, count in counts.items() if count is not None}
