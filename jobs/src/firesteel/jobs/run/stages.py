"""The stages that an interval goes through: the list that a run executes and that `firesteel explain` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import PlanDrift
from firesteel.jobs.gates.drift import DriftChecks
from firesteel.jobs.run.baselines import Baselines
from firesteel.jobs.run.input_stages import GateInputs, ReadSources, Transform
from firesteel.jobs.run.interval_context import Skip
from firesteel.jobs.run.output_stages import CheckMinRows, CountRows, GateOutputs
from firesteel.jobs.run.score_stage import ScoreAndStage
from firesteel.jobs.run.staged_files import score_columns
from firesteel.pipelines.plan.digests import with_other_content
from firesteel.pipelines.plan.inputs import Located, list_files
from firesteel.pipelines.plan.model import SqlStepPlan
from firesteel.pipelines.planner.decide import lost_appends
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.presence import missing_files
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.open import locate

if TYPE_CHECKING:
    from firesteel.jobs.run.interval_context import IntervalContext, Stage
    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SinkPlan, SourcePlan


def interval_stages(plan: Plan) -> tuple[Stage, ...]:
    """Return the stages of each interval of a plan, in the order in which they run. The last one publishes."""
    sink, scored = plan.sinks[0], plan.scored_relations
    before = plan.steps_before_score
    excluding = tuple(gate for gate in plan.gates if gate.excludes_rows)
    on_inputs = [gate for gate in plan.gates if not (gate.on.startswith("sink:") or gate.on in scored)]
    checked = tuple(gate for gate in on_inputs if not gate.excludes_rows)
    stages: list[Stage] = [CheckLedger(sink), CheckInputs(plan.sources), ReadSources(plan.sources)]
    if before or excluding:
        stages.append(Transform(before, excluding))
    if checked:
        stages.append(GateInputs(checked))
    stages += staging_stages(plan, CheckMinRows(sink))
    if plan.score_step is not None and plan.score_step.operator == "direct":
        stages.append(DeleteTaskMarks())
    return (*stages, Publish(sink))


def staging_stages(plan: Plan, check_rows: Stage) -> tuple[Stage, ...]:
    """Return the stages from the score to the last check; the caller adds the publish. `check_rows` stops an interval with too few staged rows."""
    sink, step, scored = plan.sinks[0], plan.score_step, plan.scored_relations
    after = tuple(step for step in plan.steps if isinstance(step, SqlStepPlan) and step.name in scored)
    gates = tuple(gate for gate in plan.gates if gate.on == f"sink:{sink.name}" or gate.on in scored)
    scores = score_columns(plan, sink)
    stages: tuple[Stage, ...] = (ScoreAndStage(step, after, sink), CountRows(step, sink), check_rows)
    if gates or scores:
        stages += (GateOutputs(gates, sink, scores),)
    return (*stages, CheckInputs(plan.sources))


@dataclass(frozen=True, slots=True)
class CheckLedger:
    """Skip an interval that another run has published since it was planned."""

    sink: SinkPlan

    def __str__(self) -> str:
        return f"skip the interval if this plan of {self.sink.name} is published already"

    def run(self, context: IntervalContext) -> Skip | None:
        sink, interval, ledger = self.sink, context.interval, Ledger(context.store)
        previous = context.previous = ledger.published(sink.name, interval.id, canonical(sink.path))
        context.metrics.drifts = DriftChecks(Baselines(ledger, sink.name, interval.id).baseline)
        appends = sink.mode == "append_once"
        if previous is None or not previous.holds(interval.plan_hash) or (interval.reason == "forced" and not appends):
            return None
        (missing,) = missing_files(*locate(sink.path), [previous])
        if missing and appends:
            raise lost_appends(sink.name, sink.path, {interval.id: missing})
        if missing:
            return None
        return Skip(f"published meanwhile by run {previous.run_id}")


@dataclass(frozen=True, slots=True)
class CheckInputs:
    """Check that the input files are those of the plan: before they are read, and again before the publish."""

    sources: tuple[SourcePlan, ...]

    def __str__(self) -> str:
        return f"compare the files of {', '.join(map(_verified, self.sources))} with the plan"

    def run(self, context: IntervalContext) -> None:
        check_inputs(context.plan, context.interval)


@dataclass(frozen=True, slots=True)
class DeleteTaskMarks:
    """Delete the files by which the direct operator resumes: no reader needs them."""

    def __str__(self) -> str:
        return "delete the marks of finished tasks from the staging folder"

    def run(self, context: IntervalContext) -> None:
        from firesteel.jobs.run.direct import delete_task_marks

        delete_task_marks(context.sink_storage, context.transaction.staging_path)


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the staged files: replace the interval's partitions, or add to them."""

    sink: SinkPlan

    def __str__(self) -> str:
        how = "add files to" if self.sink.mode == "append_once" else "replace"
        return f"{how} the partitions of {self.sink.name}, and record them in the ledger"

    def run(self, context: IntervalContext) -> None:
        metrics, transaction, appends = context.metrics, context.transaction, self.sink.mode == "append_once"
        with metrics.timed("publish"):
            publish = transaction.append if appends else transaction.publish
            record = publish(
                context.output_directories,
                metrics.counts,
                mlflow_run_id=context.mlflow_run_id,
                work_seconds=metrics.seconds.get("score and stage", 0.0),
                profiles=tuple(metrics.drifts.profiles.values()),
                task_seconds=metrics.task_seconds,
                agreement=metrics.agreement.without_samples() if metrics.agreement else None,
            )
        context.files = record.files[len(context.previous.files) :] if context.previous and appends else record.files


def _verified(source: SourcePlan) -> str:
    return source.name if source.verify == "modified" else f"{source.name} ({source.verify})"


def check_inputs(plan: Plan, interval: IntervalPlan) -> None:
    """Compare the input manifest with the storage.

    Raises
    ------
    PlanDrift
        FS6001 naming the source, and the files that were added, deleted or changed.
    InputNotReady
        FS4006 when the storage has no checksum of a file whose source verifies it.
    """
    sources = {source.name: source for source in plan.sources}
    for planned in interval.inputs:
        source = sources[planned.source]
        located = Located(*locate(source.path))
        now = {
            file.path: file for file in list_files(located.storage, located.path, planned.directories, source.marker)
        }
        then = {file.path: file for file in planned.files}
        by_time = source.verify == "modified"
        differences = {
            "new": sorted(now.keys() - then.keys()),
            "deleted": sorted(then.keys() - now.keys()),
            "changed": sorted(
                name
                for name in now.keys() & then.keys()
                if now[name].length != then[name].length
                or (by_time and now[name].modified_ms != then[name].modified_ms)
            ),
        }
        if not by_time and not any(differences.values()):
            differences["with other content"] = with_other_content(source.name, located, planned.files, source.verify)
        parts = [f"{len(names)} {what} ({names[0]})" for what, names in differences.items() if names]
        if not parts:
            continue
        raise PlanDrift(
            "FS6001",
            f"source {planned.source}, interval {interval.id}: input files changed after the plan was made: {', '.join(parts)}. "
            "Nothing was published.",
            hint="Run `firesteel plan` again, and apply the new plan.",
        )
