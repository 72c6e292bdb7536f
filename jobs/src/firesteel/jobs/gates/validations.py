"""What gates found, as Great Expectations' own validation results: a suite for each gate, a batch for each interval.

Written as its JSON, which takes no import of it; read back into its objects, of which its Data Docs are built.
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
_DONE = {"raised_exception": False, "exception_traceback": None, "exception_message": None}


def validations(result: RunResult, plan: Plan) -> list[dict[str, Any]]:
    """A validation result for each gate and interval, in the order in which they were made."""
    gates = {gate.name: gate for gate in plan.gates}
    return [
        _validation(result, interval.interval, gates[found.gate], found)
        for interval in result.intervals
        for found in interval.gates
    ]


def write_validations(result: RunResult, plan: Plan, path: Path) -> None:
    """Write them beside the report; none, no file."""
    found = validations(result, plan)
    if found:
        path.write_text(redact(json.dumps(found, indent=2, ensure_ascii=False)) + "\n", encoding="utf-8")


def read_validations(path: Path) -> list[ExpectationSuiteValidationResult]:
    """Great Expectations' objects."""
    return [as_object(each) for each in json.loads(path.read_text(encoding="utf-8"))]


def as_object(validation: dict[str, Any]) -> ExpectationSuiteValidationResult:
    """One validation result as Great Expectations' object: what `Checkpoint.run` would have given."""
    from firesteel.jobs.gates.gx import warm_up

    warm_up()
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    # Its schema does not read all that it writes.
    given = {key: value for key, value in validation.items() if key != "batch_id"}
    made: ExpectationSuiteValidationResult = expectationSuiteValidationResultSchema.load(given)
    made.batch_id = validation["batch_id"]
    return made


def _validation(result: RunResult, interval: str, gate: GatePlan, found: GateResult) -> dict[str, Any]:
    passed = sum(each.success for each in found.expectations)
    whole = len(found.expectations)
    results = [_result(*pair) for pair in zip(gate.expectations, found.expectations, strict=True)]
    return {
        "success": found.success,
        "suite_name": gate.name,
        "batch_id": interval,
        "results": results,
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": whole,
            "successful_expectations": passed,
            "unsuccessful_expectations": whole - passed,
            "success_percent": 100 * passed / whole,
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


def _result(expectation: Expectation, found: ExpectationResult) -> dict[str, Any]:
    config: dict[str, Any] = {
        "type": expectation.type,
        "kwargs": {key: value for key, value in expectation.kwargs if key not in {"description", "meta", "notes"}},
        "meta": {"note": found.note} if found.note else {},
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
        "success": found.success,
        "expectation_config": config,
        "result": _numbers(expectation, found),
        "meta": {},
        "exception_info": _DONE,
    }


def _numbers(expectation: Expectation, found: ExpectationResult) -> dict[str, Any]:
    rows, bad = found.element_count, found.unexpected_count
    if rows is not None and bad is not None:
        share = 100 * bad / rows if rows else 0.0
        return {"element_count": rows, "unexpected_count": bad, "unexpected_percent": share}
    if expectation.type in OWN or isinstance(found.observed, dict):
        return {"observed_value": "; ".join(text for text in (render_observed(found), found.note) if text)}
    return {"observed_value": found.observed}
