"""Execute a plan: session, models, tracking, and one transaction per interval. The only place where they meet."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, PlanDrift, RuntimeFault
from firesteel.conf.identity import os_user
from firesteel.conf.redaction import scrubbed
from firesteel.conf.version import FRAMEWORK, VERSION
from firesteel.jobs.gates.validations import FILE, write_validations
from firesteel.jobs.lineage.record import LineageRecord
from firesteel.jobs.report.write import write_report
from firesteel.jobs.run.ceiling import Ceiling
from firesteel.jobs.run.intervals import Intervals, skip
from firesteel.jobs.spark.session import open_session
from firesteel.jobs.spark.shuffle import shuffle_in_use
from firesteel.jobs.timeline.eventlog import EventLog
from firesteel.jobs.timeline.read import executors_of
from firesteel.jobs.tracking import spool
from firesteel.jobs.tracking.registry import fetch_pinned
from firesteel.jobs.tracking.runs import RunTracker
from firesteel.pipelines.events import Event, OnEvent, ignore
from firesteel.pipelines.publish.layout import Area, Place
from firesteel.pipelines.publish.letters import prune_letters
from firesteel.pipelines.publish.permit import permit
from firesteel.pipelines.publish.quarantine import prune_quarantine
from firesteel.pipelines.publish.transaction import Attempt
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.storage.open import locate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import Plan
    from firesteel.udfs.model import ModelRef

_log = logging.getLogger(__name__)

RUNS_FOLDER = Path(".firesteel", "runs")
"""Where reports are left, below the working directory."""
EVENTS = "events"
"""Folder of Spark's event log, beside the report."""


@scrubbed
def run_plan(
    plan: Plan,
    *,
    spark: SparkSession | None = None,
    on_event: OnEvent = ignore,
    runs: Path | None = None,
    keep_going: bool = False,
    run_id: str = "",
) -> RunResult:
    """Execute a plan. A failed interval ends the run; intervals published before it stay published.

    Parameters
    ----------
    spark
        A session of the caller's; without one a session is started and stopped.
    runs
        Folder for the report; `.firesteel/runs` below the working directory by default.
    keep_going
        Go on after a failed interval; the first failure is the result's.
    run_id
        The run's name, one that no other run has; made here by default.

    Raises
    ------
    FiresteelError
        What stops a run before its first interval: tracking, model, Spark. Later failures are in the result.
    """
    started = time.perf_counter()
    at = datetime.now(UTC)
    run_id = run_id or f"{at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    result = RunResult(run_id, plan.pipeline, plan.profile, "skipped", (), at.isoformat(timespec="seconds"), 0.0)
    if plan.framework != FRAMEWORK:
        raise PlanDrift(
            "FS6003",
            f"the plan was made by {plan.framework}, this is firesteel {VERSION}.",
            hint="Run `firesteel plan` again.",
        )
    _permit(plan, run_id, result.started_at)
    on_event(Event("run_started", facts={"run_id": run_id, "intervals": len(plan.intervals)}))
    if all(interval.action == "skip" for interval in plan.intervals):
        skipped = tuple(skip(interval, on_event) for interval in plan.intervals)
        result = replace(result, intervals=skipped, seconds=round(time.perf_counter() - started, 3))
        on_event(Event("run_done", facts={"state": result.state}))
        return result
    folder = (runs or Path.cwd() / RUNS_FOLDER) / run_id
    _prepare(folder)
    spool.deliver(_area(plan))
    with (
        RunTracker.open(plan, run_id) as tracker,
        LineageRecord.open(
            plan,
            run_id,
            tracking_uri=tracker.tracking_uri,
            mlflow_run_id=tracker.run_id,
            mlflow_uri=tracker.url,
        ) as lineage,
    ):
        on_event = lineage.watching(on_event)
        folders = {model.name: fetch_pinned(model, plan.tracking.uri) for model in plan.models}
        result = tracker.stamp(result)
        with open_session(plan, spark, events=folder / EVENTS) as session:
            log = EventLog.of(session)
            shuffle = shuffle_in_use(session, dict(plan.spark_conf))
            on_event(Event("session", facts=asdict(shuffle)))
            result = replace(result, shuffle=shuffle)
            models = ship(session, plan, folders)
            challenger = ship_challenger(session, plan)
            with Ceiling(session, plan.resources.max_executor_hours, f"firesteel-{run_id}") as ceiling:
                result = Intervals(
                    session, plan, models, tracker, lineage, on_event, keep_going, ceiling, challenger
                ).run(result)
        _prune(plan)
        result = replace(result, executors=executors_of(log, plan, since=at if spark is not None else None))
        result = lineage.finish(result)
        result = replace(result, seconds=round(time.perf_counter() - started, 3), report=str(folder / "report.html"))
        result = _report(result, plan, folder)
        result = tracker.finish(result, folder / "report.html")
        if tracker.problems:
            spool.keep(_area(plan), plan, result, tracker.problems)
    on_event(Event("run_done", facts={"state": result.state}))
    return result


def _prepare(folder: Path) -> None:
    """Make the folder of the report before any work is done: a run whose report cannot be written should not publish first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeFault(
            "FS9008",
            f"the folder for the report of the run, {folder}, cannot be made: {error.strerror}.",
            hint="Run in a folder that this user may write.",
        ) from error


def _report(result: RunResult, plan: Plan, folder: Path) -> RunResult:
    """Write the report, and the result beside it. A full disk does not make a published run fail."""
    try:
        write_report(result, plan, folder / "report.html")
        (folder / "result.json").write_text(result.to_json(), encoding="utf-8")
        write_validations(result, plan, folder / FILE)
    except OSError as error:
        _log.warning("the report of the run is not complete: %s", error)
        return replace(result, report="")
    return result


def _area(plan: Plan) -> Area:
    storage, base = locate(plan.storage)
    return Area(storage, base, plan.pipeline, plan.profile)


def _permit(plan: Plan, run_id: str, at: str) -> None:
    """Ask the site's policies before anything is read: the plan may be another user's, or older than they are."""
    area = _area(plan)
    for interval in [each for each in plan.intervals if each.action == "score"][:1]:
        attempt = Attempt(run_id, interval.plan_hash, os_user(), socket.gethostname(), at)
        for sink in plan.sinks:
            permit(Place(area, sink.name, interval.id), locate(sink.path)[1], attempt, strict=plan.security == "strict")


def _prune(plan: Plan) -> None:
    """Delete old dead letters and quarantined rows. What is published is published, whether that works or not."""
    area = _area(plan)
    for sink in plan.sinks:
        for what, prune, keep_s in (
            ("dead letters", prune_letters, sink.keep_letters_s),
            ("quarantined rows", prune_quarantine, sink.keep_quarantine_s),
        ):
            if keep_s is not None:
                try:
                    prune(area, keep_s, now_s=time.time())
                except FiresteelError as error:
                    _log.warning("old %s stay: %s", what, error)


def ship(session: SparkSession, plan: Plan, folders: Mapping[str, Path]) -> dict[str, ModelRef]:
    """Send the plan's models to the executors."""
    from firesteel.udfs.model import ModelRef, ship_model

    return {
        model.name: ModelRef(
            model.name, model.digest, ship_model(session, folders[model.name], model.digest), model.method
        )
        for model in plan.models
    }


def ship_challenger(session: SparkSession, plan: Plan) -> ModelRef | str:
    """Send the score step's challenger to the executors, or say why not: the champion scores without it.

    Raises
    ------
    FiresteelError
        Its scores are to be published, and it is not there.
    """
    from firesteel.udfs.model import ModelRef, ship_model

    planned = plan.score_step.challenger if plan.score_step else None
    if planned is None or planned.pinned is None or planned.error:
        return planned.error if planned else ""
    model = planned.pinned
    try:
        folder = fetch_pinned(model, plan.tracking.uri)
        return ModelRef(
            f"{model.name} challenger", model.digest, ship_model(session, folder, model.digest), model.method
        )
    except FiresteelError as error:
        if planned.outputs:
            raise
        _log.warning("the challenger of %s is not scored: %s", model.name, error)
        return str(error)
