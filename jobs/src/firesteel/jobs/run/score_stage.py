"""The stage that scores an interval and writes the staged files: one Spark job, since every frame before it is lazy.

pyspark and pyarrow are imported when the stage runs: `firesteel explain` describes it without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.jobs.run.interval_context import ScoreOutcome
from firesteel.jobs.run.job_progress import report_progress
from firesteel.jobs.run.models import ChallengerModel
from firesteel.jobs.run.scoring import score_spec
from firesteel.jobs.spark.lower import check_columns, make_view, observed_rows, write_staged
from firesteel.jobs.spark.written import rows_written
from firesteel.pipelines.events import Event
from firesteel.pipelines.plan.model import SqlStepPlan
from firesteel.pipelines.storage.paths import join
from firesteel.udfs.attempts import DIED
from firesteel.udfs.worker_errors import worker_died

if TYPE_CHECKING:
    from firesteel.jobs.run.direct import DirectJob, NotDirect
    from firesteel.jobs.run.interval_context import IntervalContext
    from firesteel.pipelines.plan.model import ScoreStepPlan, SinkPlan
    from firesteel.udfs.spec import ScoreSpec


@dataclass(frozen=True, slots=True)
class ScoreAndStage:
    """Score the rows, run the SQL steps after the score, and write the rows of the sink to the staging folder."""

    step: ScoreStepPlan | None
    after: tuple[SqlStepPlan, ...]
    sink: SinkPlan

    def __str__(self) -> str:
        score = [f"score {self.step.input} with model {self.step.model}"] if self.step else []
        views = [f"create a view of {', '.join(step.name for step in self.after)}"] if self.after else []
        return "; ".join([*score, *views, f"write the rows of {self.sink.name} to the staging folder"])

    def run(self, context: IntervalContext) -> None:
        spark, interval = context.spark, context.interval.id
        context.on_event(Event("scoring", interval))
        with (
            context.metrics.timed("score and stage"),
            report_progress(spark, interval, context.on_event) as progress,
        ):
            if self.step is not None:
                self._check_columns(context, self.step)
            context.outcome = self._score_until_done(context)
        context.metrics.task_seconds = progress.task_seconds

    def _check_columns(self, context: IntervalContext, step: ScoreStepPlan) -> None:
        planned = next((other.columns for other in context.plan.steps if other.name == step.input), ())
        expected = {column.name: column.type for column in planned}
        check_columns(context.spark.table(step.input), step.input, expected)

    def _score_until_done(self, context: IntervalContext) -> ScoreOutcome:
        """Score; after the death of a Python worker score again, without what may have caused it.

        The first attempt is as planned. The second one omits the challenger. The last one runs each batch in a process of its
        own, which finds the rows that end the process; it needs `on_error: dead_letter`.
        """
        challenger = context.challenger
        attempts = [(challenger, False)]
        if challenger.model is not None:
            challenger = ChallengerModel(reason=DIED)
            attempts.append((challenger, False))
        if self.step is not None and self.step.on_error.action == "dead_letter":
            attempts.append((challenger, True))
        for challenger, guarded in attempts[:-1]:
            try:
                return self._score(context, challenger, guarded=guarded)
            except Exception as error:
                if not worker_died(error):
                    raise
                context.on_event(Event("scoring", context.interval.id, {"again": "a Python worker died"}))
        challenger, guarded = attempts[-1]
        return self._score(context, challenger, guarded=guarded)

    def _score(self, context: IntervalContext, challenger: ChallengerModel, *, guarded: bool) -> ScoreOutcome:
        """Score by the direct operator where it is planned and possible, and by a Spark job otherwise."""
        from firesteel.jobs.run.direct import NotDirect, commit

        # Spark's executors write there.
        context.sink_storage.permit(join(context.transaction.staging_path, "file"))
        spec, fallback = None, ""
        if self.step is not None:
            spec = score_spec(self.step, context.models[self.step.model], challenger, guarded=guarded)
            if self.step.operator == "direct":
                job = self._direct_job(context, spec)
                if not isinstance(job, NotDirect):
                    result = job.run(context.spark)
                    commit(context.sink_storage, context.transaction.staging_path, result)
                    return ScoreOutcome(result.rows_in, result.report)
                fallback = job.reason
        context.sink_storage.delete(context.transaction.staging_path)
        return self._score_by_spark(context, spec, fallback)

    def _direct_job(self, context: IntervalContext, spec: ScoreSpec) -> DirectJob | NotDirect:
        """Return the direct job without the tasks that a dead attempt at the same plan has finished."""
        from firesteel.jobs.run.direct import NotDirect, finished_tasks, plan_direct_job

        excluded = context.metrics.excluded.rows_in
        if excluded:
            return NotDirect(f"a gate excluded {excluded:,} rows")
        done = finished_tasks(context.sink_storage, context.transaction.staging_path)
        job = plan_direct_job(
            context.spark,
            context.plan,
            context.interval,
            spec,
            context.transaction.staging_path,
            context.lineage,
            done,
        )
        if done and not isinstance(job, NotDirect):
            context.metrics.resumed_rows = sum(task.result.rows_in for task in done)
            facts: dict[str, object] = {"done": len(done), "left": len(job.tasks), "rows": context.metrics.resumed_rows}
            context.on_event(Event("resumed", context.interval.id, facts))
        return job

    def _score_by_spark(self, context: IntervalContext, spec: ScoreSpec | None, fallback: str) -> ScoreOutcome:
        """Write the staged files by a Spark job. Spark counts the rows in, the operator counts by itself."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as F  # noqa: N812

        from firesteel.udfs.score import score

        spark, rows_in, scored = context.spark, Observation(f"{context.interval.id} rows_in"), None
        if self.step is not None and spec is not None:
            rows = spark.table(self.step.input).observe(rows_in, F.count(F.lit(1)).alias("rows"))
            scored = score(rows, spec)
            scored.df.createOrReplaceTempView(self.step.name)
        for step in self.after:
            make_view(spark, step, context.interval)
        frame = spark.table(self.sink.source)
        file_rows = context.plan.resources.file_rows
        added = context.interval.added(self.sink.name)
        write_staged(frame, self.sink, context.lineage, context.staging_uri, added=added, file_rows=file_rows)
        if scored is not None:
            return ScoreOutcome(observed_rows(rows_in), scored.report(), fallback)
        written = rows_written(spark)
        return ScoreOutcome(frame.count() if written is None else written)
