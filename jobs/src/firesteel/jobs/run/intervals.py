"""The intervals of a run, one after the other or several at once, each as a transaction of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from firesteel.conf.errors import FiresteelError
from firesteel.conf.identity import os_user
from firesteel.jobs.run.attempt import Runner
from firesteel.jobs.run.ceiling import Ceiling
from firesteel.jobs.run.schedule import POOL, Lanes, has_room, in_order
from firesteel.jobs.spark.session import activated, child_session
from firesteel.pipelines.events import Event, OnEvent
from firesteel.pipelines.publish.transaction import Attempt
from firesteel.pipelines.result import IntervalResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from firesteel.jobs.lineage.record import LineageRecord
    from firesteel.jobs.tracking.runs import RunTracker
    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.udfs.model import ModelRef

Ended: TypeAlias = "tuple[IntervalResult, FiresteelError | None]"


@dataclass(slots=True)
class Intervals:
    """Runs the intervals of a plan that have work.

    Attributes
    ----------
    keep_going
        Begin others after a failure; not after the ceiling of executor-hours.
    challenger
        The score step's challenger, or why it is not scored.
    done, failure
        What became of each so far, and the first failure.
    """

    session: SparkSession
    plan: Plan
    models: Mapping[str, ModelRef]
    tracker: RunTracker
    lineage: LineageRecord
    on_event: OnEvent
    keep_going: bool
    ceiling: Ceiling
    challenger: ModelRef | str = ""
    done: dict[str, IntervalResult] = field(default_factory=dict)
    failure: FiresteelError | None = None
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def run(self, result: RunResult) -> RunResult:
        """Run them all; the result with what became of each, in the order of the plan."""
        for interval in self.plan.intervals:
            if interval.action == "skip":
                self.done[interval.id] = skip(interval, self._tell)
        work = [interval for interval in self.plan.intervals if interval.action != "skip"]
        at_once = min(self.plan.batch_concurrency, len(work))
        work = in_order(self.plan, work, at_once)
        if at_once > 1:
            self._side_by_side(work, at_once, result.run_id)
        else:
            self._one_by_one(work, result.run_id)
        found = tuple(self.done[interval.id] for interval in self.plan.intervals if interval.id in self.done)
        failure = self.failure
        state: Literal["published", "skipped", "failed"] = (
            "failed" if failure else "published" if any(each.state == "published" for each in found) else "skipped"
        )
        return replace(
            result,
            state=state,
            intervals=found,
            exit_code=failure.exit_code if failure else 0,
            error=str(failure or ""),
        )

    def _one_by_one(self, work: list[IntervalPlan], run_id: str) -> None:
        for interval in work:
            if not self._begin(interval):
                return
            self._end(interval, *self._attempt(self.session, interval, run_id, 1))

    def _side_by_side(self, work: list[IntervalPlan], at_once: int, run_id: str) -> None:
        lanes = [self.session, *(child_session(self.session, self.plan) for _ in range(at_once - 1))]
        context = self.session.sparkContext

        def do(lane: SparkSession, interval: IntervalPlan) -> Ended:
            with self._pool(lane, lanes.index(lane)), activated(lane):
                return self._attempt(lane, interval, run_id, at_once)

        running: Lanes[SparkSession, Ended] = Lanes(lanes, lambda: has_room(context, self.plan), self.ceiling.interrupt)
        with contextlib.closing(running.run(work, self._begin, do)) as results:
            for interval, (outcome, failed) in results:
                self._end(interval, outcome, failed)

    def _begin(self, interval: IntervalPlan) -> bool:
        """Whether an interval may begin; MLflow and the lineage are told by the caller's thread alone."""
        if self.failure is not None and not self.keep_going:
            return False
        try:
            self.ceiling.check(interval.id, interval.input_bytes)
        except FiresteelError as error:
            self.failure = self.failure or error
            return False
        self.tracker.interval_started(interval.id)
        self.lineage.interval_started(interval)
        return True

    def _end(self, interval: IntervalPlan, outcome: IntervalResult, failed: FiresteelError | None) -> None:
        self.ceiling.did(interval.input_bytes)
        self.failure = self.failure or failed
        self.tracker.interval_finished(outcome)
        self.lineage.interval_finished(interval, outcome)
        self.done[interval.id] = outcome

    def _attempt(self, session: SparkSession, interval: IntervalPlan, run_id: str, at_once: int) -> Ended:
        attempt = Attempt(
            run_id,
            interval.plan_hash,
            os_user(),
            socket.gethostname(),
            datetime.now(UTC).isoformat(timespec="seconds"),
            made_of=interval.made_of,
            input_bytes=interval.input_bytes,
            slots=max(1, session.sparkContext.defaultParallelism // at_once),
        )
        mlflow_run = self.tracker.run_id
        runner = Runner(
            session, self.plan, self.models, attempt, self._tell, mlflow_run, self.challenger, ceiling=self.ceiling
        )
        return runner.run(interval)

    def _tell(self, event: Event) -> None:
        """One event at a time, whatever thread it comes from."""
        with self._telling:
            self.on_event(event)

    @contextlib.contextmanager
    def _pool(self, lane: SparkSession, number: int) -> Iterator[None]:
        """Jobs of this thread are in a pool of their own: fair to those of other lanes."""
        context = lane.sparkContext
        context.setLocalProperty(POOL, f"firesteel-{number}")
        try:
            yield
        finally:
            context.setLocalProperty(POOL, None)  # type: ignore[arg-type]


def skip(interval: IntervalPlan, on_event: OnEvent) -> IntervalResult:
    """An interval that has no work."""
    on_event(Event("interval_skipped", interval.id, {"reason": interval.reason}))
    return IntervalResult(interval.id, "skipped", interval.reason, interval.plan_hash)
