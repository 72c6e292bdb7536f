"""The score step of a plan as `firesteel.udfs` describes it, and the results of the operator as the run records them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from firesteel.conf.errors import RowErrorBudget
from firesteel.conf.quantities import plural
from firesteel.conf.redaction import redact
from firesteel.jobs.run.models import NO_CHALLENGER, ChallengerModel
from firesteel.pipelines.result import Agreement, OutputAgreement
from firesteel.udfs.spec import Challenger, ErrorBudget, Output, ScoreSpec

if TYPE_CHECKING:
    from pydantic import JsonValue

    from firesteel.pipelines.plan.model import OnError, ScoreStepPlan, Unparsed
    from firesteel.pipelines.storage.base import Storage
    from firesteel.udfs.agreement import OutputTally
    from firesteel.udfs.dead_letter import DeadLetter
    from firesteel.udfs.model import ModelRef
    from firesteel.udfs.report import ScoreReport


def score_spec(
    step: ScoreStepPlan, model: ModelRef, challenger: ChallengerModel = NO_CHALLENGER, *, guarded: bool = False
) -> ScoreSpec:
    """Return the step as the operator describes it.

    Parameters
    ----------
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
        backend="guarded"
        if guarded
        else "reference"
        if step.operator == "pandas"
        else "compiled"
        if step.accelerate == "auto"
        else "native",
    )


def _challenger(step: ScoreStepPlan, challenger: ChallengerModel) -> Challenger | None:
    planned = step.challenger
    if planned is None:
        return None
    off = "" if challenger.model is not None else challenger.reason or "it is not scored here"
    return Challenger(
        challenger.model,
        planned.features,
        planned.tolerance,
        tuple(Output(output.name, output.type, output.select) for output in planned.outputs),
        off,
        planned.feature_names,
    )


def agreement_of(step: ScoreStepPlan, report: ScoreReport) -> Agreement | None:
    """Return the agreement of the step's challenger with its model; None where there is no challenger."""
    from firesteel.udfs.agreement import Tally

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
        tuple(_output(name, output) for name, output in tally.outputs.items()),
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
    """Return how an interval was scored, for its result.

    Parameters
    ----------
    fell_back
        Why the planned operator `direct` could not be used; empty if it was used or not planned.
    resumed_rows
        Rows that a dead attempt has scored.
    """
    choices: list[JsonValue] = [
        {
            "backend": choice.backend,
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
        ("rows_by_backend", dict(report.rows_by_backend)),
        ("backends", choices),
        ("model_loads", report.loads),
        ("batches", report.batches),
        ("largest_batch", report.max_batch_rows),
        *((("resumed_rows", resumed_rows),) if resumed_rows else ()),
    )


def write_dead_letters(storage: Storage, path: str, dead_letters: tuple[DeadLetter, ...], model_version: str) -> None:
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
        for letter in dead_letters
    ]
    storage.create(path, ("\n".join(lines) + "\n").encode())


def exceeded(limits: OnError | Unparsed, bad: int, rows: int) -> str:
    """Return the limit that so many bad rows exceed, for a message; "" if they are within the limits."""
    if bad > limits.max_rows:
        return f"max_rows is {limits.max_rows:,}"
    if rows and bad / rows > limits.max_fraction:
        return f"max_fraction is {limits.max_fraction:g} of {plural(rows, 'row')}"
    return ""


def check_error_budget(step: ScoreStepPlan, dead_letters: tuple[DeadLetter, ...], rows_in: int, place: str) -> None:
    """Raise FS5003 when more rows failed than `on_error` allows."""
    bad = len(dead_letters)
    over = exceeded(step.on_error, bad, rows_in)
    if over:
        first = dead_letters[0]
        raise RowErrorBudget(
            "FS5003",
            f"step {step.name}: the model failed on {plural(bad, 'row')}, but on_error.{over}. First error: {first.error}. "
            f"The rows are in {place}. Nothing was published.",
            hint=f"Fix the rows or the model. Raise `steps.{step.name}.score.on_error` only if these rows may be missing.",
        )
