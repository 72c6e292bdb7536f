"""One interval: read -> input gates -> score -> stage -> output gates -> publish, as one transaction.

::

    leased -> input gates -> staged -> output gates -> journaled -> swapped -> ledgered -> cleaned
      |__________________________________________________|            |
        a crash here: the old data stands, whole                      a crash here: the next start rolls forward
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from firesteel.conf.errors import FiresteelError, GateFailed
from firesteel.jobs.gates.distribution import distribution
from firesteel.jobs.gates.run import raise_if_failed, run_gate
from firesteel.jobs.run.direct import commit, direct_work
from firesteel.jobs.run.drift import check_inputs
from firesteel.jobs.run.scoring import check_budget, score_spec, scoring_facts, write_dead_letters
from firesteel.jobs.run.staged import StagedFiles
from firesteel.jobs.run.watch import watched
from firesteel.jobs.spark.lower import (
    check_columns,
    check_required,
    make_view,
    observed_rows,
    read_sources,
    read_staged,
    spark_fault,
    write_staged,
)
from firesteel.pipelines.events import Event, OnEvent
from firesteel.pipelines.plan.model import ScoreStepPlan, SqlStepPlan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import Area, Attempt, Transaction
from firesteel.pipelines.result import Counts, GateResult, IntervalResult
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.score import score

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from firesteel.jobs.run.direct import DirectWork
    from firesteel.pipelines.plan.model import Column, IntervalPlan, Plan, SinkPlan
    from firesteel.pipelines.storage.base import FileStatus, Storage
    from firesteel.udfs.model import ModelRef
    from firesteel.udfs.report import ScoreReport
    from firesteel.udfs.score import Scored

NUMERIC = ("double", "float", "int", "bigint", "smallint", "tinyint", "decimal")


@dataclass(slots=True)
class Findings:
    """What an attempt has found so far. It outlives a failure, so that the failure is reported with numbers."""

    counts: Counts = field(default_factory=Counts)
    gates: list[GateResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    worker_seconds: dict[str, float] = field(default_factory=dict)
    distributions: tuple[tuple[str, JsonValue], ...] = ()
    scoring: tuple[tuple[str, JsonValue], ...] = ()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - started, 3)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs intervals of one plan in one session."""

    spark: SparkSession
    plan: Plan
    models: Mapping[str, ModelRef]
    attempt: Attempt
    on_event: OnEvent
    mlflow_run_id: str = ""

    def run(self, interval: IntervalPlan) -> tuple[IntervalResult, FiresteelError | None]:
        """Run one interval to its end.

        Returns
        -------
        The result, and the error when it failed. Interrupts are not caught: the transaction aborts on their way out.
        """
        self.on_event(
            Event("interval_started", interval.id, {"bytes": interval.input_bytes, "reason": interval.reason})
        )
        findings = Findings()
        try:
            result = self._transaction(interval, findings)
        except FiresteelError as error:
            self.on_event(Event("interval_failed", interval.id, error.as_dict()))
            return self._result(interval, findings, "failed", error=str(error)), error
        self.on_event(
            Event(
                "interval_done",
                interval.id,
                {"state": result.state, "rows": result.counts.scored, "seconds": sum(findings.seconds.values())},
            )
        )
        return result, None

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
            done = Ledger(area).published(sink.name, interval.id)
            if done and done.plan_hash == interval.plan_hash and interval.reason != "forced":
                return self._result(interval, findings, "skipped", reason=f"published meanwhile by run {done.run_id}")
            try:
                self._work(interval, sink, transaction, findings)
            except FiresteelError as error:
                transaction.fail(str(error), findings.counts)
                raise
            planned = next(output.directories for output in interval.outputs if output.sink == sink.name)
            with findings.timed("publish"):
                record = transaction.publish(
                    planned,
                    findings.counts,
                    mlflow_run_id=self.mlflow_run_id,
                    work_seconds=findings.seconds.get("score and stage", 0.0),
                )
        return self._result(
            interval,
            findings,
            "published",
            partitions=tuple(sorted({file.path.rpartition("/")[0] for file in record.files})),
            files=len(record.files),
            size=sum(file.length for file in record.files),
        )

    def _work(self, interval: IntervalPlan, sink: SinkPlan, transaction: Transaction, findings: Findings) -> None:
        """Everything between lease and journal. Whatever Spark raises leaves as an error of ours."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            check_inputs(self.plan, interval)
            self._input(interval, findings)
            self._stage(interval, sink, transaction, findings)
            self._audit(interval, sink, transaction, findings)
            check_inputs(self.plan, interval)
        except (PySparkException, Py4JError) as error:
            raise spark_fault(error) from error

    def _input(self, interval: IntervalPlan, findings: Findings) -> None:
        with findings.timed("read"):
            read_sources(self.spark, self.plan, interval)
            for source in self.plan.sources:
                check_required(self.spark, source, interval.id)
        for step in self.plan.steps:
            if isinstance(step, SqlStepPlan) and not self._after_scoring(step.name):
                make_view(self.spark, step)
        for gate in self.plan.gates:
            if not gate.on.startswith("sink:") and not self._after_scoring(gate.on):
                self._gate(gate.name, self.spark.table(gate.on), interval, findings, Counts())

    def _after_scoring(self, name: str) -> bool:
        """Whether a relation depends on the score step."""
        scored = {step.name for step in self.plan.steps if isinstance(step, ScoreStepPlan)}
        for step in self.plan.steps:  # in the order of dependencies
            if isinstance(step, SqlStepPlan) and scored & set(step.reads):
                scored.add(step.name)
        return name in scored

    def _stage(self, interval: IntervalPlan, sink: SinkPlan, transaction: Transaction, findings: Findings) -> None:
        storage, _ = locate(sink.path)
        scoring = next((step for step in self.plan.steps if isinstance(step, ScoreStepPlan)), None)
        self.on_event(Event("scoring", interval.id))
        with findings.timed("score and stage"), watched(self.spark, interval.id, self.on_event):
            if scoring is not None:
                frame = self.spark.table(scoring.input)
                expected = {column.name: column.type for column in self._columns(scoring.input)}
                check_columns(frame, scoring.input, expected)
            work = self._direct(interval, scoring, transaction) if scoring and scoring.operator == "direct" else ""
            if isinstance(work, str):
                rows_in, report = self._through_spark(interval, sink, scoring, storage, transaction)
            else:
                result = work.run(self.spark)
                commit(storage, transaction.staging_path, result)
                rows_in, report = result.rows_in, result.report
        files = tuple(storage.walk(transaction.staging_path))
        with findings.timed("audit"):
            staged = StagedFiles.below(storage, transaction.staging_path).rows()
            if staged is None:
                staged = read_staged(
                    self.spark, sink, f"{storage.base_uri}{transaction.staging_path}", exists=True
                ).count()
        findings.counts = Counts(rows_in=rows_in, scored=staged)
        if report is not None and scoring is not None:
            findings.scoring = scoring_facts(scoring, report, work if isinstance(work, str) else "")
            self._account(interval, report, scoring, rows_in, staged, findings)
        self._check_balance(interval, staged, files, findings)

    def _direct(self, interval: IntervalPlan, step: ScoreStepPlan, transaction: Transaction) -> DirectWork | str:
        return direct_work(
            self.spark,
            self.plan,
            interval,
            step,
            self.models[step.model],
            transaction.staging_path,
            self._lineage(step),
        )

    def _through_spark(
        self,
        interval: IntervalPlan,
        sink: SinkPlan,
        scoring: ScoreStepPlan | None,
        storage: Storage,
        transaction: Transaction,
    ) -> tuple[int, ScoreReport | None]:
        """Stage by a Spark job: rows in by Spark's own count, and the operator's report."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as F  # noqa: N812

        seen = Observation(f"{interval.id} rows_in")
        scored: Scored | None = None
        for step in self.plan.steps:
            if isinstance(step, ScoreStepPlan):
                rows = self.spark.table(step.input).observe(seen, F.count(F.lit(1)).alias("rows"))
                scored = score(rows, score_spec(step, self.models[step.model]))
                scored.df.createOrReplaceTempView(step.name)
            elif self._after_scoring(step.name):
                make_view(self.spark, step)
        frame = self.spark.table(sink.source)
        if scored is None:
            frame = frame.observe(seen, F.count(F.lit(1)).alias("rows"))
        write_staged(frame, sink, self._lineage(scoring), f"{storage.base_uri}{transaction.staging_path}")
        return observed_rows(seen), scored.report() if scored is not None else None

    def _check_balance(
        self, interval: IntervalPlan, staged: int, files: tuple[FileStatus, ...], findings: Findings
    ) -> None:
        self.on_event(
            Event(
                "staged",
                interval.id,
                {"rows": staged, "files": len(files), "bytes": sum(file.length for file in files)},
            )
        )
        if not findings.counts.balanced:
            counts = findings.counts
            raise GateFailed(
                "FS7002",
                f"{interval.id}: rows do not add up: {counts.rows_in:,} in, {counts.scored:,} scored, "
                f"{counts.dead_letter:,} dead letter, {counts.dropped:,} dropped. Nothing was published.",
                hint="Two rows for one, or one lost: is a step after scoring a join or a UNION?",
            )

    def _account(
        self,
        interval: IntervalPlan,
        report: ScoreReport,
        step: ScoreStepPlan,
        rows_in: int,
        staged: int,
        findings: Findings,
    ) -> None:
        letters = report.dead_letters
        # Only steps after the scoring may leave rows out; the operator counts by itself, so a loss still shows.
        direct = self.plan.sinks[0].source == step.name
        dropped = 0 if direct else report.rows_scored - staged
        findings.counts = Counts(rows_in=rows_in, scored=staged, dead_letter=len(letters), dropped=dropped)
        for phase, seconds in report.seconds:
            findings.worker_seconds[phase] = round(seconds, 3)
        if letters:
            storage, base = locate(self.plan.storage)
            path = f"{base}/dead_letter/{step.name}/{interval.id}/{self.attempt.run_id}.jsonl"
            version = next(model.version for model in self.plan.models if model.name == step.model)
            write_dead_letters(storage, path, letters, version)
            check_budget(step, letters, rows_in, f"{storage.base_uri}{path}")

    def _audit(self, interval: IntervalPlan, sink: SinkPlan, transaction: Transaction, findings: Findings) -> None:
        storage, _ = locate(sink.path)
        place, exists = f"{storage.base_uri}{transaction.staging_path}", findings.counts.scored > 0
        for gate in self.plan.gates:
            if gate.on == f"sink:{sink.name}":
                staged = read_staged(self.spark, sink, place, exists=exists)
                self._gate(gate.name, staged, interval, findings, findings.counts)
            elif self._after_scoring(gate.on):
                self._gate(gate.name, self.spark.table(gate.on), interval, findings, findings.counts)
        outputs = {
            output.name for step in self.plan.steps if isinstance(step, ScoreStepPlan) for output in step.outputs
        }
        outputs -= {*sink.partition_by}  # those are no columns of the files
        names = [column.name for column in sink.columns if column.name in outputs and column.type.startswith(NUMERIC)]
        if names:
            with findings.timed("audit"):
                files = StagedFiles.below(storage, transaction.staging_path)
                found = files.distribution(names, findings.counts.scored)
                if found is None:
                    found = distribution(read_staged(self.spark, sink, place, exists=exists), names)
                findings.distributions = tuple(found)

    def _gate(self, name: str, frame: DataFrame, interval: IntervalPlan, findings: Findings, counts: Counts) -> None:
        gate = next(gate for gate in self.plan.gates if gate.name == name)
        rows = {}
        for expectation in gate.expectations:
            of = dict(expectation.kwargs).get("of") if expectation.type == "row_count_matches" else None
            if isinstance(of, str):
                rows[of] = counts.rows_in if of == self._score_input() else self.spark.table(of).count()
        with findings.timed("gates"):
            result = run_gate(gate, frame, row_counts=rows, counts=counts)
        findings.gates.append(result)
        kind: Literal["output_gate", "input_gate"] = "output_gate" if gate.on.startswith("sink:") else "input_gate"
        self.on_event(Event(kind, interval.id, {"gate": gate.name, "success": result.success}))
        raise_if_failed(result, gate)

    def _score_input(self) -> str:
        return next((step.input for step in self.plan.steps if isinstance(step, ScoreStepPlan)), "")

    def _columns(self, relation: str) -> tuple[Column, ...]:
        step = next((step for step in self.plan.steps if step.name == relation), None)
        return step.columns if step else ()

    def _lineage(self, scoring: ScoreStepPlan | None) -> dict[str, str]:
        version = next((model.version for model in self.plan.models if scoring and model.name == scoring.model), "")
        return {"_run_id": self.attempt.run_id, "_model_version": version, "_plan_hash": self.attempt.plan_hash}

    def _result(
        self,
        interval: IntervalPlan,
        findings: Findings,
        state: Literal["published", "skipped", "failed"],
        *,
        reason: str = "",
        error: str = "",
        partitions: tuple[str, ...] = (),
        files: int = 0,
        size: int = 0,
    ) -> IntervalResult:
        return IntervalResult(
            interval=interval.id,
            state=state,
            reason=reason or interval.reason,
            plan_hash=interval.plan_hash,
            counts=findings.counts,
            partitions=partitions,
            files=files,
            bytes=size,
            gates=tuple(findings.gates),
            seconds=tuple(findings.seconds.items()),
            distributions=findings.distributions,
            scoring=findings.scoring,
            worker_seconds=tuple(findings.worker_seconds.items()),
            error=error,
        )
