"""The progress of an interval's Spark jobs, reported while they run: an interval of a billion rows takes an hour."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.pipelines.events import Event

if TYPE_CHECKING:
    from pyspark import SparkContext, StatusTracker
    from pyspark.sql import SparkSession

    from firesteel.pipelines.events import OnEvent

EVERY_S = 1.0
_COUNT_S = 2.0
"""Seconds to wait for Spark's own count of a job that has just ended."""
_log = logging.getLogger(__name__)
_GROUP = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


@dataclass(slots=True)
class JobProgress:
    """`task_seconds` is the time of all tasks together; 0 where Spark does not report it. It is set after the block."""

    task_seconds: float = 0.0


@contextmanager
def report_progress(
    spark: SparkSession, interval: str, on_event: OnEvent, every_s: float = EVERY_S
) -> Iterator[JobProgress]:
    """Send `tasks` events about the jobs that this thread starts within the block: tasks done, and tasks known so far.

    The jobs have a job group of their own within the block; the caller's group is restored afterwards.
    """
    context = spark.sparkContext
    before = [context.getLocalProperty(name) for name in _GROUP]
    group = f"firesteel {interval} {secrets.token_hex(6)}"  # a session may score an interval twice
    context.setLocalProperty("spark.jobGroup.id", group)
    context.setLocalProperty("spark.job.description", f"firesteel: {interval}")
    done = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(context, group, interval, on_event, done, every_s), name=group, daemon=True
    )
    watcher.start()
    progress = JobProgress()
    try:
        yield progress
        progress.task_seconds = _task_seconds(context, group)
    finally:
        done.set()
        watcher.join()
        for name, value in zip(_GROUP, before, strict=True):
            context.setLocalProperty(name, value)  # type: ignore[arg-type]


def _watch(
    context: SparkContext, group: str, interval: str, on_event: OnEvent, done: threading.Event, every_s: float
) -> None:
    from py4j.protocol import Py4JError

    sent = (0, 0)
    while not done.wait(every_s):
        try:
            tasks = _tasks(context, group)
        except (Py4JError, OSError) as error:  # if the context is gone, the job fails and ends the block
            _log.debug("the progress of Spark's jobs is not known: %s", error)
            continue
        if tasks != sent:
            sent = tasks
            on_event(Event("tasks", interval, {"done": tasks[0], "known": tasks[1]}))


def _task_seconds(context: SparkContext, group: str) -> float:
    """Return the seconds that executors worked for the jobs of a group. Under dynamic allocation the slots are not known."""
    from py4j.protocol import Py4JError

    total = 0.0
    try:
        tracker, store = context.statusTracker(), context._jsc.sc().statusStore()  # noqa: SLF001 - no public way
        stages = {stage for job in tracker.getJobIdsForGroup(group) for stage in _stages(tracker, job)}
        deadline = time.monotonic() + _COUNT_S
        for stage in stages:
            data = store.lastStageAttempt(stage)
            while str(data.status()) == "ACTIVE" and time.monotonic() < deadline:  # Spark updates it after the job
                time.sleep(0.01)
                data = store.lastStageAttempt(stage)
            total += data.executorRunTime() / 1000
    except (Py4JError, OSError) as error:
        _log.debug("the time of Spark's tasks is not known: %s", error)
        return 0.0
    return round(total, 3)


def _stages(tracker: StatusTracker, job: int) -> list[int]:
    info = tracker.getJobInfo(job)
    return list(info.stageIds) if info is not None else []


def _tasks(context: SparkContext, group: str) -> tuple[int, int]:
    tracker = context.statusTracker()
    done = known = 0
    seen: set[int] = set()
    for job in tracker.getJobIdsForGroup(group):
        for stage in _stages(tracker, job):
            if stage in seen:
                continue
            seen.add(stage)
            info = tracker.getStageInfo(stage)
            if info is not None:
                done, known = done + info.numCompletedTasks, known + info.numTasks
    return done, known
