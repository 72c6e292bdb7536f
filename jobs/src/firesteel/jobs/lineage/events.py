"""Build the events of a run: of the pipeline's run and of its interval runs.

::

    START (pipeline) -- START (interval) -- COMPLETE | FAIL | ABORT (interval) -- ... -- COMPLETE | FAIL | ABORT (pipeline)

A crashed run sends no final event. The run that recovers it sends that event, because run IDs are derived from names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from openlineage.client.generated.base import EventType, Job, Run, RunEvent
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.job_type_job import JobTypeJobFacet
from openlineage.client.generated.nominal_time_run import NominalTimeRunFacet
from openlineage.client.generated.ownership_job import Owner, OwnershipJobFacet
from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet
from openlineage.client.generated.sql_job import SQLJobFacet

from firesteel.conf.version import VERSION
from firesteel.jobs.lineage.datasets import inputs, outputs
from firesteel.jobs.lineage.facets import PRODUCER, FiresteelRunFacet
from firesteel.jobs.lineage.gates import verdicts
from firesteel.jobs.lineage.names import run_uuid
from firesteel.jobs.lineage.parent import Parent, RunName
from firesteel.pipelines.plan.model import SqlStepPlan

if TYPE_CHECKING:
    from openlineage.client.generated.base import JobFacet, RunFacet

    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.result import Counts, IntervalResult, RunResult

CANCELLED = "FS7503"
"""Error code of a cancelled run, which is not a failure."""

DIED = "the driver crashed or lost its lease before it wrote the journal: nothing was published"


def failure_type(error: str) -> EventType:
    """Return ABORT for a cancelled run, else FAIL."""
    return EventType.ABORT if error.startswith(CANCELLED) else EventType.FAIL


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Events:
    """Builds the events of one run of a plan in the job `namespace`. Each event is self-contained."""

    plan: Plan
    run_id: str
    namespace: str
    parent: Parent | None = None
    tracking_uri: str = ""
    mlflow_run_id: str = ""
    mlflow_uri: str = ""
    now: Callable[[], datetime] = _now

    @property
    def run_name(self) -> RunName:
        """Return the name of the pipeline's run."""
        return self._name_of(self.run_id)

    @property
    def interval_job(self) -> str:
        """Return the name of the job whose runs are intervals."""
        return f"{self.plan.pipeline}.{'+'.join(sink.name for sink in self.plan.sinks)}"

    def interval_uuid(self, interval: str, run_id: str) -> str:
        """Return the run ID of an interval."""
        return run_uuid(self.namespace, f"{self.interval_job} {interval}", run_id)

    def pipeline(self, kind: EventType, result: RunResult | None = None, error: str = "") -> RunEvent:
        """Return an event of the pipeline's run."""
        counts = result.counts if result else None
        return self._event(
            kind,
            self.run_name.run_id,
            self._run_facets(
                self.parent,
                error or (result.error if result else ""),
                self._own(self.run_id, counts, state=result.state if result else None),
            ),
            self.plan.pipeline,
            self._job_facets("PIPELINE"),
        )

    def started(self, interval: IntervalPlan) -> RunEvent:
        """Return the start event of an interval."""
        return self._interval(EventType.START, interval, None)

    def finished(self, interval: IntervalPlan, result: IntervalResult) -> RunEvent:
        """Return the final event of an interval. A skipped interval has no inputs and outputs."""
        kind = failure_type(result.error) if result.state == "failed" else EventType.COMPLETE
        return self._interval(kind, interval, result, result.error)

    def aborted(self, interval: IntervalPlan, error: str) -> RunEvent:
        """Return the abort event of an interval after an interrupt or an error that ends the run."""
        return self._interval(EventType.ABORT, interval, None, error)

    def recovered(self, interval: str, run_id: str, *, published: bool) -> tuple[RunEvent, RunEvent]:
        """Return the final events of a recovered interval and of its crashed run.

        A published interval is complete. The events have no inputs, which the START event has.
        """
        kind = EventType.COMPLETE if published else EventType.FAIL
        error = "" if published else DIED
        interval_event = self._event(
            kind,
            self.interval_uuid(interval, run_id),
            self._run_facets(
                self._parent_of_interval(run_id),
                error,
                self._own(run_id, interval=interval, state="published" if published else "died"),
            ),
            self.interval_job,
            self._job_facets("INTERVAL"),
        )
        run_event = self._event(
            EventType.FAIL,
            self._name_of(run_id).run_id,
            self._run_facets(None, "the driver crashed", self._own(run_id, state="died")),
            self.plan.pipeline,
            self._job_facets("PIPELINE"),
        )
        return interval_event, run_event

    def _name_of(self, run_id: str) -> RunName:
        return RunName(self.namespace, self.plan.pipeline, run_uuid(self.namespace, self.plan.pipeline, run_id))

    def _parent_of_interval(self, run_id: str) -> Parent:
        name = self._name_of(run_id)
        return self.parent.for_children_of(name) if self.parent and run_id == self.run_id else Parent(name)

    def _interval(
        self, kind: EventType, interval: IntervalPlan, result: IntervalResult | None, error: str = ""
    ) -> RunEvent:
        plan, skipped = self.plan, result is not None and result.state == "skipped"
        firesteel_facet = self._own(
            self.run_id,
            result.counts if result else None,
            plan_hash=interval.plan_hash,
            interval=interval.id,
            reason=result.reason if result else interval.reason,
            state=result.state if result else None,
        )
        facets = self._run_facets(self._parent_of_interval(self.run_id), error, firesteel_facet)
        facets["nominalTime"] = NominalTimeRunFacet(_timed(interval.start), _timed(interval.end))
        if result and (tests := verdicts(plan, result.gates)):
            facets["test"] = tests
        event = self._event(
            kind,
            self.interval_uuid(interval.id, self.run_id),
            facets,
            self.interval_job,
            self._job_facets("INTERVAL"),
        )
        if not skipped:
            event.inputs = inputs(plan, interval, result, self.tracking_uri)
            event.outputs = outputs(plan, interval, result, self.tracking_uri)
        return event

    def _event(
        self, kind: EventType, uuid: str, run_facets: dict[str, RunFacet], job: str, job_facets: dict[str, JobFacet]
    ) -> RunEvent:
        return RunEvent(
            eventTime=self.now().isoformat(),
            producer=PRODUCER,
            eventType=kind,
            run=Run(uuid, run_facets),
            job=Job(self.namespace, job, job_facets),
        )

    def _own(self, run_id: str, counts: Counts | None = None, **facts: str | None) -> FiresteelRunFacet:
        is_this_run = run_id == self.run_id  # only the name of another run is known
        facet = FiresteelRunFacet(run_id, self.plan.pipeline, self.plan.profile)
        facet.planHash, facet.interval = facts.get("plan_hash"), facts.get("interval")
        facet.reason, facet.state = facts.get("reason"), facts.get("state")
        if is_this_run:
            facet.codeHash = self.plan.code_hash
            facet.mlflowRunId, facet.mlflowUri = self.mlflow_run_id or None, self.mlflow_uri or None
        if counts is not None:
            facet.rowsIn, facet.scored, facet.deadLetter = counts.rows_in, counts.scored, counts.dead_letter
            facet.quarantined, facet.dropped = counts.quarantined, counts.dropped
        return facet

    def _run_facets(self, parent: Parent | None, error: str, own: FiresteelRunFacet) -> dict[str, RunFacet]:
        import pyspark

        facets: dict[str, RunFacet] = {
            "processing_engine": ProcessingEngineRunFacet(pyspark.__version__, "spark", VERSION),
            "firesteel_run": own,
        }
        if parent is not None:
            facets["parent"] = parent.facet()
        if error:
            facets["errorMessage"] = ErrorMessageRunFacet(error, "PYTHON")
        return facets

    def _job_facets(self, job_type: str) -> dict[str, JobFacet]:
        facets: dict[str, JobFacet] = {"jobType": JobTypeJobFacet("BATCH", "FIRESTEEL", job_type)}
        if self.plan.owner:
            facets["ownership"] = OwnershipJobFacet([Owner(self.plan.owner)])
        steps = [f"-- {step.name}\n{step.sql}" for step in self.plan.steps if isinstance(step, SqlStepPlan)]
        if steps and job_type == "INTERVAL":
            facets["sql"] = SQLJobFacet(";\n\n".join(steps), "spark")
        return facets


def _timed(text: str) -> str:
    """Return an ISO time. OpenLineage rejects dates, so a date becomes its start in UTC."""
    return text if "T" in text else f"{text}T00:00:00+00:00"
