"""Replay: score the open dead letters of an interval again, and publish them beside what is there."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, RowErrorBudget, StorageError
from firesteel.conf.identity import os_user
from firesteel.conf.redaction import scrubbed
from firesteel.jobs.run.attempt import Runner
from firesteel.jobs.run.runner import ship, ship_challenger
from firesteel.jobs.spark.lower import make_view, read_sources
from firesteel.jobs.spark.session import open_session
from firesteel.jobs.tracking.registry import fetch_pinned
from firesteel.pipelines.events import OnEvent, ignore
from firesteel.pipelines.plan.model import ScoreStepPlan, SqlStepPlan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.letters import letters
from firesteel.pipelines.publish.recover import person
from firesteel.pipelines.publish.transaction import Area, Attempt, Transaction
from firesteel.pipelines.result import IntervalResult, RunResult
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.letter_codec import decode_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    from firesteel.jobs.run.findings import Findings
    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SinkPlan
    from firesteel.pipelines.publish.letters import Letters
    from firesteel.pipelines.storage.base import Storage


@scrubbed
def replay(
    plan: Plan, interval: str, *, spark: SparkSession | None = None, on_event: OnEvent = ignore
) -> RunResult | None:
    """Score and publish the open dead letters of an interval.

    Returns
    -------
    What became of it; None when no dead letter is open.
    """
    started = time.perf_counter()
    storage, base = locate(plan.storage)
    area = Area(storage, base, plan.pipeline, plan.profile)
    planned = next(each for each in plan.intervals if each.id == interval)
    found = [each for each in letters(area, tuple(sink.name for sink in plan.sinks), interval) if each.open]
    if not found:
        return None
    me = person("replay")
    attempt = Attempt(me.run_id, planned.plan_hash, os_user(), socket.gethostname(), me.started_at)
    plan = _lenient(plan)
    folders = {model.name: Path(fetch_pinned(model, plan.tracking.uri)) for model in plan.models}
    with open_session(plan, spark) as session:
        models = ship(session, plan, folders)
        challenger = ship_challenger(session, plan)
        outcome, failure = Replay(session, plan, models, attempt, on_event, "", challenger, tuple(found)).run(planned)
    return RunResult(
        attempt.run_id,
        plan.pipeline,
        plan.profile,
        "failed" if failure else "published",
        (outcome,),
        datetime.now(UTC).isoformat(timespec="seconds"),
        round(time.perf_counter() - started, 3),
        exit_code=failure.exit_code if failure else 0,
        error=str(failure or ""),
    )


def _lenient(plan: Plan) -> Plan:
    """No fraction of rows known to be bad is too large, and the direct operator, which reads the sources, is not for them."""
    steps = tuple(
        replace(step, operator="arrow", operator_reason="a replay", on_error=replace(step.on_error, max_fraction=1.0))
        if isinstance(step, ScoreStepPlan) and step.operator == "direct"
        else replace(step, on_error=replace(step.on_error, max_fraction=1.0))
        if isinstance(step, ScoreStepPlan)
        else step
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def read_letters(
    storage: Storage, found: Sequence[Letters], schema: StructType, optional: frozenset[str] = frozenset()
) -> pa.Table:
    """Return the rows of dead letters with the columns of `schema`, each value as it was.

    Parameters
    ----------
    optional
        Columns that are null where a letter does not have them.

    Raises
    ------
    RowErrorBudget
        FS5004 naming the columns that a letter does not have, or has with another type than today's.
    StorageError
        FS8006 when a letter was cut or changed.
    """
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    wanted = {field.name: field.dataType.simpleString() for field in schema.fields}
    arrow, tables = to_arrow_schema(schema, timezone="UTC"), []
    for each in found:
        try:
            letters = [json.loads(line) for line in storage.read(each.path).splitlines()]
            for letter in letters:
                _check_types(each.run_id, letter.get("types", {}), wanted, optional)
            rows = [{name: letter["row"].get(name) for name in wanted} for letter in letters]
            tables.append(decode_rows(rows, arrow))
        except (ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as error:
            raise StorageError(
                "FS8006",
                f"{storage.base_uri}{each.path} does not hold dead letters: {type(error).__name__}. Nothing was published.",
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
            hint="Run the interval again with --force: its rows are read anew.",
        )


@dataclass(frozen=True, slots=True)
class Replay(Runner):
    """An attempt whose rows are dead letters, and which adds in place of replacing."""

    found: tuple[Letters, ...] = ()

    def _transaction(self, interval: IntervalPlan, findings: Findings) -> IntervalResult:
        sink = self.plan.sinks[0]
        storage, base = locate(self.plan.storage)
        area = Area(storage, base, self.plan.pipeline, self.plan.profile)
        with Transaction.begin(
            area,
            sink.name,
            sink.path,
            interval.id,
            self.attempt,
            on_event=self.on_event,
            keep_versions=sink.keep_versions,
        ) as transaction:
            # Once more under the lease: another replay may have been faster.
            still = {each.run_id for each in letters(area, (sink.name,), interval.id) if each.open}
            onto = Ledger(area).published(sink.name, interval.id)
            if onto is None or any(each.run_id not in still for each in self.found):
                return self._result(interval, findings, "skipped", reason="replayed meanwhile")
            try:
                self._work(interval, sink, area, transaction, findings)
            except FiresteelError as error:
                transaction.fail(str(error), findings.counts)
                raise
            planned = next(output.directories for output in interval.outputs if output.sink == sink.name)
            with findings.timed("publish"):
                # These rows were counted as dead letters before: they are no new rows of the interval.
                counts = replace(
                    findings.counts,
                    rows_in=0,
                    dead_letter=findings.counts.dead_letter - sum(each.rows for each in self.found),
                )
                record = transaction.add_replayed(planned, onto, counts, tuple(each.run_id for each in self.found))
        added = record.files[len(onto.files) :]
        return self._result(
            interval,
            findings,
            "published",
            reason=f"{findings.counts.rows_in:,} dead letters",
            partitions=tuple(sorted({file.path.rpartition("/")[0] for file in added})),
            files=len(added),
            size=sum(file.length for file in added),
        )

    def _check_least_rows(self, interval: IntervalPlan, sink: SinkPlan, area: Area, findings: Findings) -> None:
        """A replay only adds rows to what is published."""

    def _audit(self, interval: IntervalPlan, sink: SinkPlan, transaction: Transaction, findings: Findings) -> None:
        """As a run; but where all rows failed again there is nothing to look at, and the old letters stay open."""
        if findings.counts.scored == 0:
            raise RowErrorBudget(
                "FS5005",
                f"{interval.id}: all {findings.counts.dead_letter:,} dead letters failed again. Nothing was published.",
                hint="Mend the model or what it calls; the letters stay open.",
            )
        Runner._audit(self, interval, sink, transaction, findings)  # noqa: SLF001 - super() fails in slotted dataclasses

    def _input(self, interval: IntervalPlan, area: Area, transaction: Transaction, findings: Findings) -> None:  # noqa: ARG002 - a run needs it
        """The views of a run, with the letters in place of what the score step reads."""
        from pyspark.sql.types import StructType

        step, scored, storage = self.plan.score_step, self.plan.scored_relations, area.storage
        assert step is not None  # it has left the letters
        with findings.timed("read"):
            read_sources(self.spark, self.plan, interval)
            for each in self.plan.steps:
                if isinstance(each, SqlStepPlan) and each.name not in scored:
                    make_view(self.spark, each, interval)
            names = {*step.columns_read}
            columns = StructType([field for field in self.spark.table(step.input).schema.fields if field.name in names])
            optional = frozenset(names - {*step.features, *step.keep})
            frame = self.spark.createDataFrame(read_letters(storage, self.found, columns, optional), columns)
            frame.createOrReplaceTempView(step.input)
