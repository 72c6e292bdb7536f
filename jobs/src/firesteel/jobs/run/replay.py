"""Replay: score the open dead letters of an interval again, and add the rows to the published ones."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from firesteel.conf.errors import RowErrorBudget, StorageError
from firesteel.conf.identity import os_user
from firesteel.conf.redaction import scrubbed
from firesteel.jobs.run.executor_hours_budget import ExecutorHoursBudget
from firesteel.jobs.run.interval_context import IntervalContext, Skip
from firesteel.jobs.run.models import distribute_challenger, distribute_models
from firesteel.jobs.run.run_interval import run_interval
from firesteel.jobs.run.stages import CheckInputs, staging_stages
from firesteel.jobs.spark.lower import make_view, read_sources
from firesteel.jobs.spark.session import open_session
from firesteel.jobs.tracking.registry import fetch_pinned
from firesteel.pipelines.events import OnEvent, ignore
from firesteel.pipelines.plan.model import ScoreStepPlan
from firesteel.pipelines.plan.security import held_to_security
from firesteel.pipelines.publish.dead_letters import dead_letters
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import person
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.publish.verify import check_dead_letters
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.storage.identity import canonical
from firesteel.udfs.dead_letter_codec import decode_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    from firesteel.jobs.run.interval_context import Stage
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.publish.dead_letters import DeadLetterFile
    from firesteel.pipelines.storage.base import Storage


@scrubbed
@held_to_security
def replay(
    plan: Plan, interval: str, *, spark: SparkSession | None = None, on_event: OnEvent = ignore
) -> RunResult | None:
    """Score and publish the open dead letters of an interval.

    Returns
    -------
    The result; None when no dead letter is open.
    """
    started = time.perf_counter()
    store = StateStore.of(plan)
    planned = next(candidate for candidate in plan.intervals if candidate.id == interval)
    files = tuple(
        file for file in dead_letters(store, {sink.name: sink.path for sink in plan.sinks}, interval) if file.open
    )
    if not files:
        return None
    me = person("replay")
    attempt = Attempt(me.run_id, planned.plan_hash, os_user(), socket.gethostname(), me.started_at)
    plan = _replay_plan(plan)
    folders = {model.name: fetch_pinned(model, plan.tracking.uri, store) for model in plan.models}
    with open_session(plan, spark) as session:
        context = IntervalContext(
            session,
            plan,
            planned,
            distribute_models(session, plan, folders),
            attempt,
            on_event,
            ExecutorHoursBudget(session, None, f"firesteel-{attempt.run_id}"),
            distribute_challenger(session, plan),
            resume=False,
        )
        outcome = run_interval(context, replay_stages(plan, files))
    return RunResult(
        attempt.run_id,
        plan.pipeline,
        plan.profile,
        "failed" if outcome.error else "published",
        (outcome.result,),
        datetime.now(UTC).isoformat(timespec="seconds"),
        round(time.perf_counter() - started, 3),
        exit_code=outcome.error.exit_code if outcome.error else 0,
        error=str(outcome.error or ""),
    )


def replay_stages(plan: Plan, files: tuple[DeadLetterFile, ...]) -> tuple[Stage, ...]:
    """Return the stages of a replay: those of a run, with dead letters as the input and an addition as the publish."""
    check, read = CheckInputs(plan.sources), ReadDeadLetters(files)
    return (CheckDeadLetters(files), check, read, *staging_stages(plan, CheckScoredRows()), AddReplayed(files))


@dataclass(frozen=True, slots=True)
class CheckDeadLetters:
    """Skip a replay whose dead letters another replay has published meanwhile, and stop one whose dead letters were changed."""

    files: tuple[DeadLetterFile, ...]

    def __str__(self) -> str:
        return "skip the interval if another replay has published its dead letters; compare the dead letters with the ledger"

    def run(self, context: IntervalContext) -> Skip | None:
        sink, interval = context.sink.name, context.interval.id
        still_open = {
            file.run_id for file in dead_letters(context.store, {sink: context.sink.path}, interval) if file.open
        }
        context.previous = Ledger(context.store).published(sink, interval, canonical(context.sink.path))
        if context.previous is None or any(file.run_id not in still_open for file in self.files):
            return Skip("replayed meanwhile")
        check_dead_letters(context.store, sink, interval, [file.path for file in self.files])
        return None


@dataclass(frozen=True, slots=True)
class ReadDeadLetters:
    """Create the views of a run, with the dead letters as the input of the score step."""

    files: tuple[DeadLetterFile, ...]

    def __str__(self) -> str:
        return f"read {sum(file.rows for file in self.files):,} dead letters as the input of the score step"

    def run(self, context: IntervalContext) -> None:
        from pyspark.sql.types import StructType

        spark, plan, interval = context.spark, context.plan, context.interval
        score_step = plan.score_step
        assert score_step is not None  # it wrote the dead letters
        with context.metrics.timed("read"):
            read_sources(spark, plan, interval)
            for step in plan.steps_before_score:
                make_view(spark, step, interval)
            names = {*score_step.columns_read}
            fields = [field for field in spark.table(score_step.input).schema.fields if field.name in names]
            optional = frozenset(names - {*score_step.features, *score_step.keep})
            rows = read_dead_letters(context.store.storage, self.files, StructType(fields), optional)
            spark.createDataFrame(rows, StructType(fields)).createOrReplaceTempView(score_step.input)


@dataclass(frozen=True, slots=True)
class CheckScoredRows:
    """Stop a replay that has nothing to add; the dead letters stay open."""

    def __str__(self) -> str:
        return "check that at least one dead letter is scored"

    def run(self, context: IntervalContext) -> None:
        """Raise FS5005 when all rows failed again."""
        counts = context.metrics.counts
        if counts.scored == 0:
            raise RowErrorBudget(
                "FS5005",
                f"{context.interval.id}: all {counts.dead_letter:,} dead letters failed again. Nothing was published.",
                hint="Fix the model or the services that it calls. The dead letters stay open.",
            )


@dataclass(frozen=True, slots=True)
class AddReplayed:
    """Add the staged files to the published ones; no published file changes."""

    files: tuple[DeadLetterFile, ...]

    def __str__(self) -> str:
        return "add the files to the published interval, and record the dead letters as replayed in the ledger"

    def run(self, context: IntervalContext) -> None:
        metrics, previous = context.metrics, context.previous
        assert previous is not None  # CheckDeadLetters skips an interval that was never published
        with metrics.timed("publish"):
            # The interval has counted these rows as dead letters before: they are not rows in again.
            still_dead = metrics.counts.dead_letter - sum(file.rows for file in self.files)
            counts = replace(metrics.counts, rows_in=0, dead_letter=still_dead)
            replayed = tuple(file.run_id for file in self.files)
            record = context.transaction.add_replayed(context.output_directories, previous, counts, replayed)
        context.files = record.files[len(previous.files) :]
        context.reason = f"{metrics.counts.rows_in:,} dead letters"


def _replay_plan(plan: Plan) -> Plan:
    """Return the plan for rows that failed before: any fraction may fail again, and the direct operator reads sources only."""

    def replayed(step: ScoreStepPlan) -> ScoreStepPlan:
        if step.operator == "direct":
            step = replace(step, operator="arrow", operator_reason="a replay")
        return replace(step, on_error=replace(step.on_error, max_fraction=1.0))

    steps = tuple(replayed(step) if isinstance(step, ScoreStepPlan) else step for step in plan.steps)
    return replace(plan, steps=steps)


def read_dead_letters(
    storage: Storage, files: Sequence[DeadLetterFile], schema: StructType, optional: frozenset[str] = frozenset()
) -> pa.Table:
    """Return the rows of dead letters with the columns of `schema`, and the values that the run read.

    Parameters
    ----------
    optional
        Columns that are null where a dead letter does not have them.

    Raises
    ------
    RowErrorBudget
        FS5004 naming the columns that a dead letter does not have, or has with another type.
    StorageError
        FS8006 when a file was truncated or changed.
    """
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    wanted = {field.name: field.dataType.simpleString() for field in schema.fields}
    arrow, tables = to_arrow_schema(schema, timezone="UTC"), []
    for file in files:
        try:
            dead_letters = [json.loads(line) for line in storage.read(file.path).splitlines()]
            for letter in dead_letters:
                _check_types(file.run_id, letter.get("types", {}), wanted, optional)
            rows = [{name: letter["row"].get(name) for name in wanted} for letter in dead_letters]
            tables.append(decode_rows(rows, arrow))
        except (ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as error:
            raise StorageError(
                "FS8006",
                f"{storage.base_uri}{file.path} does not hold dead letters: {type(error).__name__}. Nothing was published.",
                hint="Restore the file, or run the interval again with --force.",
            ) from error
    return pa.concat_tables(tables)


def _check_types(run_id: str, had: Mapping[str, str], wanted: Mapping[str, str], optional: frozenset[str]) -> None:
    differing = [
        f"`{name}` is {had.get(name, 'missing')}, now {kind}"
        for name, kind in wanted.items()
        if had.get(name, kind if name in optional else "") != kind
    ]
    if differing:
        raise RowErrorBudget(
            "FS5004",
            f"the dead letters of run {run_id} do not have the columns that the model or `keep` needs now: "
            f"{', '.join(differing)}.",
            hint="Run the interval again with --force, which reads its rows from the sources.",
        )
