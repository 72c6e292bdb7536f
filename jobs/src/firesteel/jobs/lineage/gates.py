"""Convert gate results to tests of the run and to assertions on datasets.

Events contain only observed numbers, because other observed values may be row values.
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
    """Return all expectations of a run, or None if there are none."""
    tests = [
        TestExecution(
            name=_name(gate, result),
            status="pass" if result.success else "fail",
            severity=_SEVERITY.get(result.severity),
            type=result.type,
            expected=arguments,
            actual=_actual(result),
            params=_counts(result),
        )
        for gate in gates
        for result, arguments in _with_arguments(plan, gate)
    ]
    return TestRunFacet(tests) if tests else None


def assertions(plan: Plan, gates: Iterable[GateResult], on: str) -> DataQualityAssertionsDatasetFacet | None:
    """Return the expectations on a source or on `sink:NAME`, or None if there are none."""
    dataset_assertions = [
        Assertion(
            assertion=result.type,
            success=result.success,
            column=result.column or None,
            severity=_SEVERITY.get(result.severity),
            name=_name(gate, result),
            expected=arguments,
            actual=_actual(result),
            params=_counts(result),
        )
        for gate in gates
        if gate.on == on
        for result, arguments in _with_arguments(plan, gate)
    ]
    return DataQualityAssertionsDatasetFacet(dataset_assertions) if dataset_assertions else None


def row_count(gates: Iterable[GateResult], on: str) -> int | None:
    """Return the row count of a relation from its gates, or None if no gate counted rows."""
    counts = (result.element_count for gate in gates if gate.on == on for result in gate.expectations)
    return max((count for count in counts if count is not None), default=None)


def _with_arguments(plan: Plan, gate: GateResult) -> Iterator[tuple[ExpectationResult, str | None]]:
    """Yield each result with the planned arguments of its expectation as JSON."""
    planned = next((planned_gate.expectations for planned_gate in plan.gates if planned_gate.name == gate.gate), ())
    for index, result in enumerate(gate.expectations):
        kwargs = dict(planned[index].kwargs) if index < len(planned) and planned[index].type == result.type else {}
        kwargs.pop("column", None)
        yield result, json.dumps(kwargs, sort_keys=True, ensure_ascii=False) if kwargs else None


def _name(gate: GateResult, result: ExpectationResult) -> str:
    return f"{gate.gate}.{result.type}({result.column})"


def _actual(result: ExpectationResult) -> str | None:
    return str(result.observed) if isinstance(result.observed, int | float) else None


def _counts(result: ExpectationResult) -> dict[str, int]:
    counts = {"element_count": result.element_count, "unexpected_count": result.unexpected_count}
    return {name: count for name, count in counts.items() if count is not None}
