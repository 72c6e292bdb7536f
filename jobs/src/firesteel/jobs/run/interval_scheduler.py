"""Run the intervals of a plan, one after the other or several at once, each in its own transaction."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from firesteel.conf.errors import FiresteelError
from firesteel.conf.identity import os_user
from firesteel.jobs.run.audit import audit_stages
from firesteel.jobs.run.executor_hours_budget import ExecutorHoursBudget
from firesteel.jobs.run.interval_context import IntervalContext
from firesteel.jobs.run.models import NO_CHALLENGER, ChallengerModel
from firesteel.jobs.run.run_interval import IntervalOutcome, run_interval
from firesteel.jobs.run.stages import interval_stages
from firesteel.jobs.run.worker_slots import POOL, WorkerSlots, execution_order, has_capacity
from firesteel.jobs.spark.session import activated, child_session
from firesteel.pipelines.events import Event, OnEvent
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.result import IntervalResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from firesteel.jobs.lineage.record import LineageRecord
    from firesteel.jobs.tracking.runs import RunTracker
    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.udfs.model import ModelRef


@dataclass(slots=True)
class IntervalScheduler:
    """Runs the intervals of a plan that are not to be skipped.

    Attributes
    ----------
    keep_going
        Start further intervals after a failure, but not after the executor-hours budget is exhausted.
    done, failure
        The results so far by interval, and the first failure.
    """

    session: SparkSession
    plan: Plan
    models: Mapping[str, ModelRef]
    tracker: RunTracker
    lineage: LineageRecord
    on_event: OnEvent
    keep_going: bool
    budget: ExecutorHoursBudget
    challenger: ChallengerModel = NO_CHALLENGER
    done: dict[str, IntervalResult] = field(default_factory=dict)
    failure: FiresteelError | None = None
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def run(self, result: RunResult) -> RunResult:
        """Run the intervals; return the result of the run with theirs, in the order of the plan."""
        for interval in self.plan.intervals:
            if interval.action == "skip":
                self.done[interval.id] = skip(interval, self._send)
        work = [interval for interval in self.plan.intervals if interval.action != "skip"]
        at_once = min(self.plan.batch_concurrency, len(work))
        work = execution_order(self.plan, work, at_once)
        if at_once > 1:
            self._concurrently(work, at_once, result.run_id)
        else:
            self._sequentially(work, result.run_id)
        results = tuple(self.done[interval.id] for interval in self.plan.intervals if interval.id in self.done)
        failure = self.failure
        state: Literal["published", "skipped", "failed"] = (
            "failed"
            if failure
            else "published"
            if any(interval.state == "published" for interval in results)
            else "skipped"
        )
        return replace(
            result,
            state=state,
            intervals=results,
            exit_code=failure.exit_code if failure else 0,
            error=str(failure or ""),
        )

    def _sequentially(self, work: list[IntervalPlan], run_id: str) -> None:
        for interval in work:
            if not self._start(interval):
                return
            self._end(interval, self._run(self.session, interval, run_id, 1))

    def _concurrently(self, work: list[IntervalPlan], at_once: int, run_id: str) -> None:
        sessions = [self.session, *(child_session(self.session, self.plan) for _ in range(at_once - 1))]
        context = self.session.sparkContext

        def do(session: SparkSession, interval: IntervalPlan) -> IntervalOutcome:
            with self._pool(session, sessions.index(session)), activated(session):
                return self._run(session, interval, run_id, at_once)

        slots: WorkerSlots[SparkSession, IntervalOutcome] = WorkerSlots(
            sessions, lambda: has_capacity(context, self.plan), self.budget.interrupt
        )
        with contextlib.closing(slots.run(work, self._start, do)) as outcomes:
            for interval, outcome in outcomes:
                self._end(interval, outcome)

    def _start(self, interval: IntervalPlan) -> bool:
        """Return whether an interval may start. Only the caller's thread writes to MLflow and the lineage."""
        if self.failure is not None and not self.keep_going:
            return False
        try:
            self.budget.check(interval.id, interval.input_bytes)
        except FiresteelError as error:
            self.failure = self.failure or error
            return False
        self.tracker.interval_started(interval.id)
        self.lineage.interval_started(interval)
        return True

    def _end(self, interval: IntervalPlan, outcome: IntervalOutcome) -> None:
        self.budget.add_completed(interval.input_bytes)
        self.failure = self.failure or outcome.error
        self.tracker.interval_finished(outcome.result)
        self.lineage.interval_finished(interval, outcome.result)
        self.done[interval.id] = outcome.result

    def _run(self, session: SparkSession, interval: IntervalPlan, run_id: str, at_once: int) -> IntervalOutcome:
        attempt = Attempt(
            run_id,
            interval.plan_hash,
            os_user(),
            socket.gethostname(),
            datetime.now(UTC).isoformat(timespec="seconds"),
            hash_inputs=interval.hash_inputs,
            input_bytes=interval.input_bytes,
            slots=max(1, session.sparkContext.defaultParallelism // at_once),
        )
        context = IntervalContext(
            session,
            self.plan,
            interval,
            self.models,
            attempt,
            self._send,
            self.budget,
            self.challenger,
            self.tracker.run_id,
        )
        audits = interval.action == "audit"
        return run_interval(context, audit_stages(self.plan, interval) if audits else interval_stages(self.plan))

    def _send(self, event: Event) -> None:
        """Send one event at a time, from any thread."""
        with self._sending:
            self.on_event(event)

    @contextlib.contextmanager
    def _pool(self, session: SparkSession, number: int) -> Iterator[None]:
        """Run the jobs of this thread in a scheduler pool of its own."""
        context = session.sparkContext
        context.setLocalProperty(POOL, f"firesteel-{number}")
        try:
            yield
        finally:
            context.setLocalProperty(POOL, None)  # type: ignore[arg-type]


def skip(interval: IntervalPlan, on_event: OnEvent) -> IntervalResult:
    """Return the result of an interval that the plan skips."""
    on_event(Event("interval_skipped", interval.id, {"reason": interval.reason}))
    return IntervalResult(interval.id, "skipped", interval.reason, interval.plan_hash)
