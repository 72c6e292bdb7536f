"""The stages of an audit: changed gates check the published files and the inputs, and nothing is scored.

::

    published record --> gates pass --> a new record with the same files and this plan's hash
                            |
                            +-- fail --> a failed record; the interval is suspect until it is published again or rolled back
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import GateFailed, PlanDrift
from firesteel.jobs.run.input_stages import GateInputs, ReadSources, Transform
from firesteel.jobs.run.output_stages import check_outputs
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.jobs.run.stages import CheckInputs, CheckLedger
from firesteel.jobs.spark.lower import read_files
from firesteel.pipelines.plan.fingerprint import changed_gates
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from firesteel.jobs.run.interval_context import IntervalContext, Skip, Stage
    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, Plan, SinkPlan


def audit_stages(plan: Plan, interval: IntervalPlan) -> tuple[Stage, ...]:
    """Return the stages of an interval whose action is `audit`. The last one records the verdict."""
    sink, before = plan.sinks[0], plan.steps_before_score
    gates = [gate for gate in plan.gates if gate.name in interval.audited_gates]
    on_sink = tuple(gate for gate in gates if gate.on == f"sink:{sink.name}")
    on_inputs = tuple(gate for gate in gates if gate not in on_sink)
    stages: list[Stage] = [CheckPublished(sink)]
    reads_inputs = bool(on_inputs) or any(gate.compared for gate in on_sink)
    if reads_inputs:
        stages += [CheckInputs(plan.sources), ReadSources(plan.sources, quarantines=False)]
        stages += [Transform(before, ())] if before else []
        stages += [AuditGates(GateInputs(on_inputs))] if on_inputs else []
    if on_sink:
        stages.append(AuditGates(GatePublished(on_sink, sink)))
    if reads_inputs:
        stages.append(CheckInputs(plan.sources))
    return (*stages, RecordAudit(sink))


@dataclass(frozen=True, slots=True)
class CheckPublished:
    """Skip an interval that another run has audited since it was planned; stop if the published version is another one."""

    sink: SinkPlan

    def __str__(self) -> str:
        return f"check that {self.sink.name} still has the version that was planned for the audit"

    def run(self, context: IntervalContext) -> Skip | None:
        """Raise FS6006 when another plan published the interval meanwhile."""
        interval = context.interval
        if (skip := CheckLedger(self.sink).run(context)) is not None:
            return skip
        previous = context.previous
        changed = changed_gates(previous.hash_inputs, interval.hash_inputs) if previous else None
        current = {gate.name for gate in context.plan.gates}
        if previous is None or changed is None or not changed & current <= {*interval.audited_gates}:
            raise PlanDrift(
                "FS6006",
                f"{self.sink.name} {interval.id}: another version was published after the plan was made. Nothing was changed.",
                hint="Run `firesteel plan` again.",
            )
        context.metrics.counts = previous.counts
        return None


@dataclass(frozen=True, slots=True)
class GatePublished:
    """Check gates on the published files."""

    gates: tuple[GatePlan, ...]
    sink: SinkPlan

    def __str__(self) -> str:
        return f"check {', '.join(gate.name for gate in self.gates)} on the published files of {self.sink.name}"

    def run(self, context: IntervalContext) -> None:
        sink, previous = self.sink, context.previous
        assert previous is not None  # CheckPublished has stopped the interval otherwise
        storage, path = locate(sink.path)
        files = tuple(FileStatus(join(path, file.path), False, file.length, 0) for file in previous.files)

        def read() -> DataFrame:
            uris = [f"{storage.base_uri}{file.path}" for file in files]
            return read_files(context.spark, sink, uris, f"{storage.base_uri}{path}")

        check_outputs(context, self.gates, sink, {}, StagedFiles(storage, files), read)


@dataclass(frozen=True, slots=True)
class AuditGates:
    """Check gates; a failure makes the published interval suspect."""

    check: GateInputs | GatePublished

    def __str__(self) -> str:
        return f"{self.check}; a failure marks the published rows as suspect"

    def run(self, context: IntervalContext) -> None:
        """Raise FS7001 when the gates fail."""
        try:
            self.check.run(context)
        except GateFailed as error:
            if error.code != "FS7001":
                raise
            interval, plan = context.interval.id, context.plan
            raise GateFailed(
                "FS7001",
                f"{error.what.removesuffix(' Nothing was published.')} The rows of {interval} that are published are now suspect.",
                hint=f"Correct the expectation, or restore the previous version: `firesteel rollback --interval {interval}`"
                + (f" --profile {plan.profile}." if plan.profile != "default" else "."),
            ) from error


@dataclass(frozen=True, slots=True)
class RecordAudit:
    """Record in the ledger that the published files pass the gates."""

    sink: SinkPlan

    def __str__(self) -> str:
        return f"record in the ledger that the published files of {self.sink.name} pass the gates; no file changes"

    def run(self, context: IntervalContext) -> None:
        previous = context.previous
        assert previous is not None  # CheckPublished has stopped the interval otherwise
        with context.metrics.timed("publish"):
            context.transaction.record_audit(previous, tuple(context.metrics.drifts.profiles.values()))
