"""The state that the stages of one interval share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from firesteel.jobs.gates.run import raise_if_failed, run_gate
from firesteel.jobs.run.interval_metrics import IntervalMetrics
from firesteel.jobs.run.models import NO_CHALLENGER
from firesteel.pipelines.events import Event
from firesteel.pipelines.publish.records import manifest_digest
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.result import IntervalResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from firesteel.jobs.run.executor_hours_budget import ExecutorHoursBudget
    from firesteel.jobs.run.models import ChallengerModel
    from firesteel.pipelines.events import OnEvent
    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, Plan, SinkPlan
    from firesteel.pipelines.profile import Profile
    from firesteel.pipelines.publish.lease import Attempt
    from firesteel.pipelines.publish.permitted_storage import PermittedStorage
    from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
    from firesteel.pipelines.publish.transaction import Transaction
    from firesteel.pipelines.result import GateResult, IntervalState
    from firesteel.udfs.model import ModelRef
    from firesteel.udfs.report import ScoreReport


_NO_PROFILES = MappingProxyType["str", "Profile"]({})


class Stage(Protocol):
    """One stage of an interval's run. As a string it is one line that says what the stage does; it needs the plan only."""

    def run(self, context: IntervalContext) -> Skip | None:
        """Run the stage. Return `Skip` if the interval needs no further stage."""
        ...


@dataclass(frozen=True, slots=True)
class Skip:
    """Why an interval needs no further stage."""

    reason: str


@dataclass(frozen=True, slots=True)
class ScoreOutcome:
    """The result of writing the staged files.

    Attributes
    ----------
    rows_in
        Rows of the score step's input; rows written where no model scores.
    report
        The counts of the scoring operator; None where no model scores.
    fallback
        Why the planned operator `direct` was not used; empty if it was, or was not planned.
    """

    rows_in: int
    report: ScoreReport | None = None
    fallback: str = ""


@dataclass(slots=True)
class IntervalContext:
    """One interval of a plan in one session, and the results of the stages so far.

    Attributes
    ----------
    resume
        Whether tasks that a dead attempt at the same plan has finished are kept.
    previous
        The interval's published record at the time of the lease; None if the interval was never published.
    unsplit
        The relations that gates exclude rows from, with all their rows.
    files
        The files that this run has published.
    """

    spark: SparkSession
    plan: Plan
    interval: IntervalPlan
    models: Mapping[str, ModelRef]
    attempt: Attempt
    on_event: OnEvent
    budget: ExecutorHoursBudget
    challenger: ChallengerModel = NO_CHALLENGER
    mlflow_run_id: str = ""
    resume: bool = True
    store: StateStore = field(init=False)
    metrics: IntervalMetrics = field(default_factory=IntervalMetrics)
    transaction: Transaction = field(init=False)
    previous: LedgerRecord | None = None
    unsplit: dict[str, DataFrame] = field(default_factory=dict)
    outcome: ScoreOutcome = field(init=False)
    files: tuple[PublishedFile, ...] = ()
    reason: str = field(init=False)

    def __post_init__(self) -> None:
        self.store = StateStore.of(self.plan)
        self.reason = self.interval.reason

    @property
    def sink(self) -> SinkPlan:
        """The sink that the interval is published to."""
        return self.plan.sinks[0]

    @property
    def sink_storage(self) -> PermittedStorage:
        """The storage of the sink, which holds the staging folder."""
        return self.store.storage

    @property
    def staging_uri(self) -> str:
        """The staging folder as Spark addresses it."""
        return f"{self.sink_storage.base_uri}{self.transaction.staging_path}"

    @property
    def output_directories(self) -> tuple[str, ...]:
        """The sink's directories that the interval replaces or adds to."""
        return next(output.directories for output in self.interval.outputs if output.sink == self.sink.name)

    @property
    def lineage(self) -> dict[str, str]:
        """Values of the sink's lineage columns."""
        return {
            "_run_id": self.attempt.run_id,
            "_model_version": self.plan.model_version,
            "_plan_hash": self.attempt.plan_hash,
        }

    def rows_of(self, relation: str) -> int | None:
        """Count the rows of a relation; None where its view does not exist yet."""
        step = self.plan.score_step
        if step is not None and relation == step.input and self.metrics.counts.rows_in:
            return self.metrics.score_rows_in
        return int(self.spark.table(relation).count()) if self.spark.catalog.tableExists(relation) else None

    def check_gate(
        self, gate: GatePlan, frame: DataFrame, profiles: Mapping[str, Profile] = _NO_PROFILES
    ) -> GateResult:
        """Check a frame against a gate, record the result and send its event.

        Parameters
        ----------
        profiles
            Profiles of columns of the frame that are known already.

        Raises
        ------
        GateFailed
            FS7001 when a critical expectation failed, FS7003 when one could not be evaluated.
        """
        metrics = self.metrics
        rows = {name: count for name in gate.compared if (count := self.rows_of(name)) is not None}
        with metrics.timed("gates"):
            result = run_gate(
                gate, frame, row_counts=rows, counts=metrics.counts, drifts=metrics.drifts, measured=profiles
            )
        metrics.gates.append(result)
        kind: Literal["output_gate", "input_gate"] = "output_gate" if gate.on.startswith("sink:") else "input_gate"
        self.on_event(Event(kind, self.interval.id, {"gate": gate.name, "success": result.success}))
        raise_if_failed(result, gate)
        return result

    def result(self, state: IntervalState, error: str = "") -> IntervalResult:
        """Return the result of the interval with the metrics measured so far."""
        metrics = self.metrics
        return IntervalResult(
            interval=self.interval.id,
            state=state,
            reason=self.reason,
            plan_hash=self.interval.plan_hash,
            counts=metrics.counts,
            partitions=tuple(sorted({file.path.rpartition("/")[0] for file in self.files})),
            files=len(self.files),
            bytes=sum(file.length for file in self.files),
            output_digest=manifest_digest(self.files) if self.files else "",
            gates=tuple(metrics.gates),
            seconds=tuple(metrics.seconds.items()),
            distributions=metrics.distributions,
            scoring=metrics.scoring,
            worker_seconds=tuple(metrics.worker_seconds.items()),
            agreement=metrics.agreement,
            error=error,
        )
