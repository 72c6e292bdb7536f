"""Write and read gate results as validation results of Great Expectations: one suite per gate, one batch per interval.

Writing the JSON needs no import of Great Expectations. Reading returns its objects, from which it builds Data Docs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firesteel.conf.redaction import redact
from firesteel.jobs.gates.check import OWN
from firesteel.jobs.gates.render import render_expected, render_observed

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

    from firesteel.pipelines.plan.model import Expectation, GatePlan, Plan
    from firesteel.pipelines.result import ExpectationResult, GateResult, RunResult

FILE = "validations.json"
_NO_EXCEPTION = {"raised_exception": False, "exception_traceback": None, "exception_message": None}


def validations(result: RunResult, plan: Plan) -> list[dict[str, Any]]:
    """Return one validation result per gate and interval, in order of execution."""
    gates = {gate.name: gate for gate in plan.gates}
    return [
        _validation(result, interval.interval, gates[gate_result.gate], gate_result)
        for interval in result.intervals
        for gate_result in interval.gates
    ]


def write_validations(result: RunResult, plan: Plan, path: Path) -> None:
    """Write the validation results, or no file if there are none."""
    results = validations(result, plan)
    if results:
        path.write_text(redact(json.dumps(results, indent=2, ensure_ascii=False)) + "\n", encoding="utf-8")


def read_validations(path: Path) -> list[ExpectationSuiteValidationResult]:
    """Return the validation results as objects of Great Expectations."""
    return [as_object(validation) for validation in json.loads(path.read_text(encoding="utf-8"))]


def as_object(validation: dict[str, Any]) -> ExpectationSuiteValidationResult:
    """Return a validation result as the object that `Checkpoint.run` returns."""
    from firesteel.jobs.gates.gx import warm_up

    warm_up()
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    # The schema of Great Expectations writes `batch_id` but does not read it.
    fields = {key: value for key, value in validation.items() if key != "batch_id"}
    validation_result: ExpectationSuiteValidationResult = expectationSuiteValidationResultSchema.load(fields)
    validation_result.batch_id = validation["batch_id"]
    return validation_result


def _validation(result: RunResult, interval: str, gate: GatePlan, gate_result: GateResult) -> dict[str, Any]:
    passed = sum(expectation.success for expectation in gate_result.expectations)
    evaluated = len(gate_result.expectations)
    results = [_result(*pair) for pair in zip(gate.expectations, gate_result.expectations, strict=True)]
    return {
        "success": gate_result.success,
        "suite_name": gate.name,
        "batch_id": interval,
        "results": results,
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": evaluated,
            "successful_expectations": passed,
            "unsuccessful_expectations": evaluated - passed,
            "success_percent": 100 * passed / evaluated,
        },
        "meta": {
            "run_id": {"run_name": result.run_id, "run_time": result.started_at},
            "active_batch_definition": {
                "datasource_name": result.pipeline,
                "data_connector_name": "firesteel",
                "data_asset_name": gate.on,
                "batch_identifiers": {"interval": interval},
            },
        },
    }


def _result(expectation: Expectation, expectation_result: ExpectationResult) -> dict[str, Any]:
    config: dict[str, Any] = {
        "type": expectation.type,
        "kwargs": {key: value for key, value in expectation.kwargs if key not in {"description", "meta", "notes"}},
        "meta": {"note": expectation_result.note} if expectation_result.note else {},
        "severity": expectation.severity,
    }
    arguments = dict(expectation.kwargs)
    if expectation.type in OWN:
        config["description"] = f"{expectation.type.replace('_', ' ')}: {render_expected(expectation)}"
    elif arguments.get("description"):
        config["description"] = arguments["description"]
    if arguments.get("notes"):
        config["notes"] = arguments["notes"]
    return {
        "success": expectation_result.success,
        "expectation_config": config,
        "result": _numbers(expectation, expectation_result),
        "meta": {},
        "exception_info": _NO_EXCEPTION,
    }


def _numbers(expectation: Expectation, expectation_result: ExpectationResult) -> dict[str, Any]:
    rows, bad = expectation_result.element_count, expectation_result.unexpected_count
    if rows is not None and bad is not None:
        share = 100 * bad / rows if rows else 0.0
        return {"element_count": rows, "unexpected_count": bad, "unexpected_percent": share}
    if expectation.type in OWN or isinstance(expectation_result.observed, dict):
        return {
            "observed_value": "; ".join(
                text for text in (render_observed(expectation_result), expectation_result.note) if text
            )
        }
    return {"observed_value": expectation_result.observed}
