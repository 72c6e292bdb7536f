"""What a failed gate says."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import GateFailed
from firesteel.jobs.gates import raise_if_failed
from firesteel.pipelines.plan.model import Expectation, GatePlan
from firesteel.pipelines.result import ExpectationResult, GateResult

PASSED = ExpectationResult("expect_column_values_to_be_unique", "id", "critical", success=True)
BETWEEN = ExpectationResult(
    "expect_column_values_to_be_between",
    "p",
    "critical",
    success=False,
    observed=0.988,
    element_count=1000,
    unexpected_count=12,
)
PLAN = GatePlan(
    "output_ok",
    "sink:scores",
    (
        Expectation("expect_column_values_to_be_unique", (("column", "id"),)),
        Expectation("expect_column_values_to_be_between", (("column", "p"), ("max_value", 1), ("min_value", 0))),
    ),
)


def test_a_passed_gate_raises_nothing() -> None:
    raise_if_failed(GateResult("g", "f", success=True, expectations=(PASSED,)))


def test_the_message_names_gate_expectation_numbers_and_that_nothing_was_published() -> None:
    with pytest.raises(GateFailed) as caught:
        raise_if_failed(GateResult("output_ok", "sink:scores", success=False, expectations=(PASSED, BETWEEN)), PLAN)
    assert caught.value.code == "FS7001"
    assert caught.value.what == (
        "gate output_ok on sink:scores: 1 of 2 expectations failed. expect_column_values_to_be_between on p: "
        "12 of 1,000 rows fail (1.2 %), expected 0 to 1. Nothing was published."
    )
    assert caught.value.exit_code == 3
