"""How far the Spark jobs of an interval are, told while they run: a day of a billion rows is one interval, and takes an hour."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firesteel.pipelines.events import Event

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from firesteel.pipelines.events import OnEvent

EVERY_S = 1.0
_log = logging.getLogger(__name__)
_GROUP = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


@contextmanager
def watched(spark: SparkSession, interval: str, on_event: OnEvent, every_s: float = EVERY_S) -> Iterator[None]:
    """Send `tasks` events about the jobs that this thread starts within the block: tasks done, and tasks known so far.

    The jobs get a group of their own for that time; what the caller had set stands again afterwards.
    """
    context = spark.sparkContext
    before = [context.getLocalProperty(name) for name in _GROUP]
    group = f"firesteel {interval} {secrets.token_hex(6)}"  # a session may score an interval twice
    context.setLocalProperty("spark.jobGroup.id", group)
    context.setLocalProperty("spark.job.description", f"firesteel: {interval}")
    over = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(context, group, interval, on_event, over, every_s), name=group, daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        for name, value in zip(_GROUP, before, strict=True):
            context.setLocalProperty(name, value)  # type: ignore[arg-type]


def _watch(
    context: SparkContext, group: str, interval: str, on_event: OnEvent, over: threading.Event, every_s: float
) -> None:
    from py4j.protocol import Py4JError

    told = (0, 0)
    while not over.wait(every_s):
        try:
            found = _tasks(context, group)
        except (Py4JError, OSError) as error:  # if the context is gone, the job says so, and ends this block
            _log.debug("Spark did not say how far it is: %s", error)
            continue
        if found != told:
            told = found
            on_event(Event("tasks", interval, {"done": found[0], "known": found[1]}))


def _tasks(context: SparkContext, group: str) -> tuple[int, int]:
    tracker = context.statusTracker()
    done = known = 0
    seen: set[int] = set()
    for job in tracker.getJobIdsForGroup(group):
        info = tracker.getJobInfo(job)
        for stage in info.stageIds if info is not None else ():
            if stage in seen:
                continue
            seen.add(stage)
            found = tracker.getStageInfo(stage)
            if found is not None:
                done, known = done + found.numCompletedTasks, known + found.numTasks
    return done, known
