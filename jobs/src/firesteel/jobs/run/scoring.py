"""The score step of a plan in terms of `firesteel.udfs`, and what its dead letters mean for the run."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from firesteel.conf.errors import RowErrorBudget
from firesteel.conf.redaction import redact
from firesteel.pipelines.result import Agreement, OutputAgreement
from firesteel.udfs.agreement import Tally
from firesteel.udfs.spec import Challenger, ErrorBudget, Output, ScoreSpec

if TYPE_CHECKING:
    from pydantic import JsonValue

    from firesteel.pipelines.plan.model import OnError, ScoreStepPlan
    from firesteel.pipelines.storage.base import Storage
    from firesteel.udfs.agreement import OutputTally
    from firesteel.udfs.dead_letter import DeadLetter
    from firesteel.udfs.model import ModelRef
    from firesteel.udfs.report import ScoreReport


def score_spec(
    step: ScoreStepPlan, model: ModelRef, challenger: ModelRef | str = "", *, guarded: bool = False
) -> ScoreSpec:
    """The operator's own description of the step.

    Parameters
    ----------
    challenger
        The step's challenger, or why it is not scored.
    guarded
        Score each batch in a process of its own: see `firesteel.udfs.guard`.
    """
    on_error = step.on_error
    return ScoreSpec(
        model=model,
        features=step.features,
        feature_names=step.feature_names,
        keep=step.keep,
        outputs=tuple(Output(output.name, output.type, output.select) for output in step.outputs),
        batch_rows=step.batch_rows,
        batch_bytes=step.batch_bytes,
        threads=step.threads,
        on_error=ErrorBudget(on_error.action, on_error.max_rows, on_error.max_fraction, on_error.retries),
        warmup=step.warmup,
        timeout_s=step.timeout_s,
        models_in_memory=step.models_in_memory,
        challenger=_challenger(step, challenger),
        forms="guarded"
        if guarded
        else "reference"
        if step.operator == "pandas"
        else "compiled"
        if step.accelerate == "auto"
        else "native",
    )


def _challenger(step: ScoreStepPlan, found: ModelRef | str) -> Challenger | None:
    planned = step.challenger
    if planned is None:
        return None
    off = (found or "it is not scored here") if isinstance(found, str) else ""
    return Challenger(
        None if isinstance(found, str) else found,
        planned.features,
        planned.tolerance,
        tuple(Output(output.name, output.type, output.select) for output in planned.outputs),
        off,
        planned.feature_names,
    )


def agreement_of(step: ScoreStepPlan, report: ScoreReport) -> Agreement | None:
    """How the step's challenger agreed with its model, for the record; None where there is none."""
    planned, tally = step.challenger, report.challenger
    if planned is None:
        return None
    tally = tally or Tally()
    pinned = planned.pinned
    return Agreement(
        planned.uri,
        pinned.version if pinned else "",
        pinned.digest if pinned else "",
        tally.rows,
        tally.failed,
        report.rows_scored - tally.rows - tally.failed,
        tally.gave_up,
        planned.tolerance,
        tuple(sorted(tally.errors.items())),
        tuple(_output(name, each) for name, each in tally.outputs.items()),
    )


def _output(name: str, tally: OutputTally) -> OutputAgreement:
    alike = tally.alike / tally.rows if tally.rows else None
    if not tally.numeric:
        return OutputAgreement(name, tally.compared, alike)
    return OutputAgreement(
        name,
        tally.compared,
        alike,
        tally.near / tally.rows if tally.rows else None,
        tally.mean_abs,
        tally.max_abs if tally.compared and math.isfinite(tally.max_abs) else None,
        tally.correlation,
        tuple((champion, challenger) for _, champion, challenger in tally.sample),
    )


def scoring_facts(
    step: ScoreStepPlan, report: ScoreReport, fell_back: str = "", resumed_rows: int = 0
) -> tuple[tuple[str, JsonValue], ...]:
    """How an interval was scored, for its record.

    Parameters
    ----------
    fell_back
        Why the planned operator `direct` could not be used, if it could not.
    resumed_rows
        Rows that a dead attempt had scored.
    """
    choices: list[JsonValue] = [
        {
            "form": choice.form,
            "reason": choice.reason,
            "checked_rows": choice.checked_rows,
            "largest_difference": choice.largest_difference,
        }
        for choice in report.choices
    ]
    return (
        ("operator", "arrow" if fell_back else step.operator),
        ("operator_reason", f"not direct: {fell_back}" if fell_back else step.operator_reason),
        ("accelerate", step.accelerate),
        ("rows_by_form", dict(report.rows_by_form)),
        ("forms", choices),
        ("model_loads", report.loads),
        ("batches", report.batches),
        ("largest_batch", report.max_batch_rows),
        *((("resumed_rows", resumed_rows),) if resumed_rows else ()),
    )


def write_dead_letters(storage: Storage, path: str, letters: tuple[DeadLetter, ...], model_version: str) -> None:
    """Write the rows that could not be scored as JSON lines: row, types of its columns, error class, message, model version."""
    lines = [
        json.dumps(
            {
                "row": dict(letter.row),
                "types": dict(letter.types),
                "error": letter.error,
                "message": redact(letter.message),
                "model_version": model_version,
            },
            ensure_ascii=False,
            allow_nan=False,
        )
        for letter in letters
    ]
    storage.create(path, ("\n".join(lines) + "\n").encode())


def check_budget(step: ScoreStepPlan, letters: tuple[DeadLetter, ...], rows_in: int, place: str) -> None:
    """FS5003 when more rows failed than `on_error` allows."""
    budget: OnError = step.on_error
    bad = len(letters)
    if bad == 0:
        return
    over = ""
    if bad > budget.max_rows:
        over = f"max_rows {budget.max_rows:,}"
    elif rows_in and bad / rows_in > budget.max_fraction:
        over = f"max_fraction {budget.max_fraction:g} of {rows_in:,}"
    if over:
        first = letters[0]
        raise RowErrorBudget(
            "FS5003",
            f"{step.name}: {bad:,} bad rows > {over}. First: {first.error}. Rows: {place}. Nothing was published.",
            hint="Mend the rows or the model; raise the budget only if these may be lost.",
        )
