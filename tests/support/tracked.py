"""Tracked runs without Spark: real transactions, a real ledger and a real tracker, in the order of `run_plan`.

As a program it is a driver that kills itself: ``python -m support.tracked ROOT TRACKING_URI RUN_ID BOUNDARY DAYS``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.tracking import RunTracker, settle_runs, spool
from firesteel.jobs.tracking.settle import Settled
from firesteel.pipelines.events import Event
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.heartbeat import RunHeartbeat
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.result import Counts, IntervalResult, RunResult
from support import forks
from support.sample_run import sample_plan

EXPERIMENT = "settled"
FAILS = "2013-06-03"
"""The interval whose gate fails."""


def tracked_plan(root: str, tracking_uri: str, days: int = 1) -> Plan:
    """Return the plan of a pipeline on `root`, a URI."""
    plan = sample_plan(days, root, tracking_uri)
    return replace(plan, models=(), tracking=replace(plan.tracking, experiment=EXPERIMENT))


def store_of(plan: Plan) -> StateStore:
    """Return the state store of a plan."""
    return StateStore.at(plan.storage, plan.pipeline, plan.profile)


def settled(plan: Plan, **options: float | None) -> Settled:
    """Do for MLflow what each command does."""
    return settle_runs(store_of(plan), plan.tracking.uri, plan.tracking.experiment, **options)


def run(plan: Plan, run_id: str, on_event: Callable[[Event], None] = lambda _: None) -> RunResult:
    """Run a plan as `run_plan` does: it publishes one file for each interval."""
    store = store_of(plan)
    result = RunResult(run_id, plan.pipeline, plan.profile, "skipped", (), "2013-06-04T10:11:12+00:00", 1.0)
    with RunHeartbeat(store, run_id) as heartbeat, RunTracker.open(plan, run_id) as tracker:
        on_event(Event("opened"))
        if (client := tracker.client) is not None:
            tracker.in_background(
                lambda: settle_runs(store, plan.tracking.uri, plan.tracking.experiment, client=client)
            )
        results = []
        for planned in plan.intervals:
            tracker.interval_started(planned.id)
            on_event(Event("started"))
            interval = _publish(store, plan, planned.id, run_id, tracker.run_id, on_event)
            on_event(Event("left"))
            on_event(Event(f"left-{len(results) + 1}"))
            tracker.interval_finished(interval)
            on_event(Event("finished"))
            results.append(interval)
        failed = next((interval for interval in results if interval.error), None)
        result = replace(
            result,
            state="failed" if failed else "published",
            intervals=tuple(results),
            exit_code=3 if failed else 0,
            error=failed.error if failed else "",
        )
        result = tracker.finish(result)
        on_event(Event("ended"))
        if tracker.problems:
            spool.keep(store, plan, result, tracker.problems)
        heartbeat.end(result.exit_code, {})
    return result


def _publish(
    store: StateStore, plan: Plan, interval: str, run_id: str, mlflow_run_id: str, on_event: Callable[[Event], None]
) -> IntervalResult:
    sink = plan.sinks[0]
    planned = next(candidate for candidate in plan.intervals if candidate.id == interval)
    attempt = Attempt(run_id, planned.plan_hash, "ann", "host-1", "2013-06-04T10:11:12+00:00")
    done = IntervalResult(interval, "published", planned.reason, planned.plan_hash, Counts(10, 10))
    with Transaction.begin(store, sink.name, sink.path, interval, attempt, on_event=on_event) as transaction:
        directories = planned.outputs[0].directories
        store.storage.create(f"{transaction.staging_path}/{directories[0]}/part-0", run_id.encode())
        if interval == FAILS:
            transaction.fail("FS7001 the gate failed")
            return replace(done, state="failed", error="FS7001 the gate failed")
        record = transaction.publish(directories, done.counts)
    return replace(done, partitions=record.partitions, files=len(record.files))


def killed_at(root: str, tracking_uri: str, run_id: str, boundary: str, days: int = 1) -> None:
    """Run a plan in a process that kills itself at the first event of a kind."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    driver: subprocess.CompletedProcess[str] = forks.run(
        [sys.executable, "-m", "support.tracked", root, tracking_uri, run_id, boundary, str(days)],
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
    )
    assert driver.returncode == -signal.SIGKILL, driver.stderr


def _main(root: str, tracking_uri: str, run_id: str, boundary: str, days: str) -> None:
    def on_event(event: Event) -> None:
        if event.kind == boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    run(tracked_plan(root, tracking_uri, int(days)), run_id, on_event)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except FiresteelError as error:
        sys.exit(str(error))
