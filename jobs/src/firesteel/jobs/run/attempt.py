"""One interval: read -> input gates -> score -> stage -> output gates -> publish, as one transaction.

::

    leased -> input gates -> staged -> output gates -> journaled -> swapped -> ledgered -> cleaned
      |__________________________________________________|            |
        a crash here: the old data stands, whole                      a crash here: the next start rolls forward
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from firesteel.conf.errors import FiresteelError, GateFailed
from firesteel.jobs.gates.distribution import distribution
from firesteel.jobs.gates.drift import Drifts
from firesteel.jobs.run.direct import commit, direct_work, finished, forget
from firesteel.jobs.run.drift import check_inputs
from firesteel.jobs.run.earlier import Successes
from firesteel.jobs.run.findings import Findings
from firesteel.jobs.run.gating import Gating
from firesteel.jobs.run.inputs import make_inputs
from firesteel.jobs.run.least_rows import check_least_rows
from firesteel.jobs.run.scoring import agreement_of, check_budget, score_spec, scoring_facts, write_dead_letters
from firesteel.jobs.run.staged import StagedFiles, drift_columns, score_columns
from firesteel.jobs.run.watch import watched
from firesteel.jobs.spark.lower import (
    check_columns,
    make_view,
    observed_rows,
    read_staged,
    spark_fault,
    write_staged,
)
from firesteel.jobs.spark.written import rows_written
from firesteel.jobs.timeline.build import INTERVAL
from firesteel.pipelines.events import Event, OnEvent
from firesteel.pipelines.plan.model import ScoreStepPlan, SqlStepPlan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import Area, Attempt, Transaction
from firesteel.pipelines.result import Counts, IntervalResult
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.attempts import DIED
from firesteel.udfs.score import score
from firesteel.udfs.worker_errors import worker_died

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.jobs.run.ceiling import Ceiling
    from firesteel.jobs.run.direct import DirectWork
    from firesteel.pipelines.plan.model import Column, IntervalPlan, Plan, SinkPlan
    from firesteel.pipelines.storage.base import FileStatus, Storage
    from firesteel.udfs.model import ModelRef
    from firesteel.udfs.report import ScoreReport
    from firesteel.udfs.score import Scored
    from firesteel.udfs.spec import ScoreSpec


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs intervals of one plan in one session."""

    spark: SparkSession
    plan: Plan
    models: Mapping[str, ModelRef]
    attempt: Attempt
    on_event: OnEvent
    mlflow_run_id: str = ""
    challenger: ModelRef | str = ""
    """The score step's challenger, or why it is not scored."""
    ceiling: Ceiling | None = field(default=None, kw_only=True)

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
        context = self.spark.sparkContext
        context.setLocalProperty(INTERVAL, interval.id)
        try:
            with self.ceiling.tagged() if self.ceiling else nullcontext():
                result = self._transaction(interval, findings)
        except FiresteelError as error:
            self.on_event(Event("interval_failed", interval.id, error.as_dict()))
            return self._result(interval, findings, "failed", error=str(error)), error
        finally:
            context.setLocalProperty(INTERVAL, None)  # type: ignore[arg-type]
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
            take_over=interval.reason != "forced",
        ) as transaction:
            done = Ledger(area).published(sink.name, interval.id)
            findings.drifts = Drifts(Successes(Ledger(area), sink.name, interval.id).earlier)
            appends = sink.mode == "append_once"
            if done and done.holds(interval.plan_hash) and (appends or interval.reason != "forced"):
                return self._result(interval, findings, "skipped", reason=f"published meanwhile by run {done.run_id}")
            try:
                self._work(interval, sink, area, transaction, findings)
            except FiresteelError as error:
                transaction.fail(str(error), findings.counts)
                raise
            planned = next(output.directories for output in interval.outputs if output.sink == sink.name)
            with findings.timed("publish"):
                publish = transaction.append if appends else transaction.publish
                record = publish(
                    planned,
                    findings.counts,
                    mlflow_run_id=self.mlflow_run_id,
                    work_seconds=findings.seconds.get("score and stage", 0.0),
                    profiles=tuple(findings.drifts.profiles.values()),
                    task_seconds=findings.task_seconds,
                    agreement=findings.agreement.without_samples() if findings.agreement else None,
                )
        files = record.files[len(done.files) :] if done and appends else record.files
        return self._result(
            interval,
            findings,
            "published",
            partitions=tuple(sorted({file.path.rpartition("/")[0] for file in files})),
            files=len(files),
            size=sum(file.length for file in files),
        )

    def _work(
        self, interval: IntervalPlan, sink: SinkPlan, area: Area, transaction: Transaction, findings: Findings
    ) -> None:
        """Everything between lease and journal. Whatever Spark raises leaves as an error of ours."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            check_inputs(self.plan, interval)
            self._input(interval, area, transaction, findings)
            self._stage(interval, sink, transaction, findings)
            self._check_least_rows(interval, sink, area, findings)
            self._audit(interval, sink, transaction, findings)
            check_inputs(self.plan, interval)
            if self.plan.score_step is not None and self.plan.score_step.operator == "direct":
                forget(locate(sink.path)[0], transaction.staging_path)
        except KeyboardInterrupt:
            if self.ceiling is not None:
                self.ceiling.interrupt()  # before the transaction aborts: tasks that still run write into its staging
            raise
        except (PySparkException, Py4JError) as error:
            if self.ceiling is not None and self.ceiling.reached:
                raise self.ceiling.error(interval.id) from error
            if self.ceiling is not None and self.ceiling.interrupted:
                raise KeyboardInterrupt from error  # in a thread of its own: the signal reached the main one
            raise spark_fault(error) from error

    def _input(self, interval: IntervalPlan, area: Area, transaction: Transaction, findings: Findings) -> None:
        gating = self._gating(interval, findings)
        make_inputs(
            self.spark, self.plan, interval, gating, findings, area, self.attempt.run_id, transaction.scratch_path
        )

    def _check_least_rows(self, interval: IntervalPlan, sink: SinkPlan, area: Area, findings: Findings) -> None:
        check_least_rows(self.plan, interval, sink, findings.counts, area)

    def _stage(self, interval: IntervalPlan, sink: SinkPlan, transaction: Transaction, findings: Findings) -> None:
        storage, _ = locate(sink.path)
        scoring = self.plan.score_step
        self.on_event(Event("scoring", interval.id))
        with findings.timed("score and stage"), watched(self.spark, interval.id, self.on_event) as seen:
            if scoring is not None:
                frame = self.spark.table(scoring.input)
                expected = {column.name: column.type for column in self._columns(scoring.input)}
                check_columns(frame, scoring.input, expected)
            rows_in, report, fell_back = self._score_to_the_end(interval, sink, storage, transaction, findings)
        findings.task_seconds = seen.task_seconds
        files = StagedFiles.below(storage, transaction.staging_path)
        with findings.timed("audit"):
            staged = files.rows()
            if staged is None:
                staged = read_staged(
                    self.spark, sink, f"{storage.base_uri}{transaction.staging_path}", exists=True
                ).count()
        if scoring is None and rows_in != staged:  # a stage of which a part ran again counts that part twice
            rows_in = self.spark.table(sink.source).count()
        findings.counts = Counts(rows_in=rows_in, scored=staged) + findings.aside
        if report is not None and scoring is not None:
            findings.scoring = scoring_facts(scoring, report, fell_back, findings.resumed_rows)
            findings.agreement = agreement_of(scoring, report)
            self._account(interval, report, scoring, rows_in, staged, findings)
        self._check_balance(interval, staged, files.files, findings)

    def _score_to_the_end(
        self, interval: IntervalPlan, sink: SinkPlan, storage: Storage, transaction: Transaction, findings: Findings
    ) -> tuple[int, ScoreReport | None, str]:
        """Score and stage, whatever ends the workers: at first as planned, then without the challenger, which may be the cause.

        At last with a process for each batch, to find the rows that end it.
        """
        step = self.plan.score_step
        ways: list[tuple[bool, ModelRef | str]] = [(False, self.challenger)]
        if step is not None and not isinstance(self.challenger, str):
            ways.append((False, DIED))
        if step is not None and step.on_error.action == "dead_letter":
            ways.append((True, self.challenger if isinstance(self.challenger, str) else DIED))
        for number, (guarded, challenger) in enumerate(ways, 1):
            try:
                return self._scored(interval, sink, storage, transaction, findings, challenger, guarded=guarded)
            except Exception as error:
                if number == len(ways) or not worker_died(error):
                    raise
                self.on_event(Event("scoring", interval.id, {"again": "a Python worker died"}))
        raise AssertionError("the last way returns or raises")

    def _scored(
        self,
        interval: IntervalPlan,
        sink: SinkPlan,
        storage: Storage,
        transaction: Transaction,
        findings: Findings,
        challenger: ModelRef | str,
        *,
        guarded: bool,
    ) -> tuple[int, ScoreReport | None, str]:
        """Score and stage: the rows in, what the operator counted, and why it was not the planned one."""
        scoring = self.plan.score_step
        spec = score_spec(scoring, self.models[scoring.model], challenger, guarded=guarded) if scoring else None
        work = self._direct(interval, scoring, storage, transaction, findings, spec) if scoring and spec else ""
        if isinstance(work, str):
            storage.delete(transaction.staging_path)
            return *self._through_spark(interval, sink, storage, transaction, spec), work
        result = work.run(self.spark)
        commit(storage, transaction.staging_path, result)
        return result.rows_in, result.report, ""

    def _direct(
        self,
        interval: IntervalPlan,
        step: ScoreStepPlan,
        storage: Storage,
        transaction: Transaction,
        findings: Findings,
        spec: ScoreSpec,
    ) -> DirectWork | str:
        """The direct job, without what is done already, or why there is none; nothing where the plan has none."""
        if step.operator != "direct":
            return ""
        if findings.aside.rows_in:
            return f"a gate took {findings.aside.rows_in:,} rows out"
        done = finished(storage, transaction.staging_path)
        work = direct_work(
            self.spark,
            self.plan,
            interval,
            spec,
            transaction.staging_path,
            self._lineage(step),
            done,
        )
        if done and not isinstance(work, str):
            findings.resumed_rows = sum(each.result.rows_in for each in done)
            self.on_event(
                Event(
                    "resumed",
                    interval.id,
                    {"done": len(done), "left": len(work.tasks), "rows": findings.resumed_rows},
                )
            )
        return work

    def _through_spark(
        self,
        interval: IntervalPlan,
        sink: SinkPlan,
        storage: Storage,
        transaction: Transaction,
        spec: ScoreSpec | None,
    ) -> tuple[int, ScoreReport | None]:
        """Stage by a Spark job: rows in by Spark's own count, and the operator's report."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as F  # noqa: N812

        seen = Observation(f"{interval.id} rows_in")
        scored: Scored | None = None
        after = self.plan.scored_relations
        for step in self.plan.steps:
            if isinstance(step, ScoreStepPlan) and spec is not None:
                rows = self.spark.table(step.input).observe(seen, F.count(F.lit(1)).alias("rows"))
                scored = score(rows, spec)
                scored.df.createOrReplaceTempView(step.name)
            elif isinstance(step, SqlStepPlan) and step.name in after:
                make_view(self.spark, step, interval)
        frame = self.spark.table(sink.source)
        write_staged(
            frame,
            sink,
            self._lineage(self.plan.score_step),
            f"{storage.base_uri}{transaction.staging_path}",
            file_rows=self.plan.resources.file_rows,
        )
        if scored is not None:
            return observed_rows(seen), scored.report()
        written = rows_written(self.spark)
        return frame.count() if written is None else written, None

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
                f"{counts.dead_letter:,} dead letter, {counts.quarantined:,} quarantined, {counts.dropped:,} dropped. "
                "Nothing was published.",
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
        counts = Counts(rows_in=rows_in, scored=staged, dead_letter=len(letters), dropped=dropped)
        findings.counts = counts + findings.aside
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
        gating, after = self._gating(interval, findings), self.plan.scored_relations
        place, exists = f"{storage.base_uri}{transaction.staging_path}", findings.counts.scored > 0
        scores = score_columns(self.plan, sink)
        types = drift_columns(self.plan, sink) | scores
        with findings.timed("audit"):
            files = StagedFiles.below(storage, transaction.staging_path)
            loaded = files.load(tuple(types), findings.counts.scored) if types else None
        for gate in self.plan.gates:
            if gate.on == f"sink:{sink.name}":
                staged = read_staged(self.spark, sink, place, exists=exists)
                gating.run(gate, staged, loaded.profiles(gate, findings.drifts, types) if loaded else {})
            elif gate.on in after:
                gating.run(gate, self.spark.table(gate.on))
        if scores:
            with findings.timed("audit"):
                if loaded is not None:
                    found = loaded.distribution(tuple(scores))
                else:
                    found = distribution(read_staged(self.spark, sink, place, exists=exists), tuple(scores))
                findings.distributions = tuple(found)

    def _gating(self, interval: IntervalPlan, findings: Findings) -> Gating:
        scoring = self.plan.score_step
        score_input = scoring.input if scoring else ""

        def rows_of(relation: str) -> int | None:
            if relation == score_input and findings.counts.rows_in:
                return findings.reached_score
            return int(self.spark.table(relation).count()) if self.spark.catalog.tableExists(relation) else None

        return Gating(interval.id, findings, self.on_event, rows_of)

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
            agreement=findings.agreement,
            error=error,
        )
