"""Read the executor use of a run from its event log. An error does not fail the run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.timeline.build import executor_use

if TYPE_CHECKING:
    from datetime import datetime

    from firesteel.jobs.timeline.eventlog import EventLog
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import ExecutorUse

_log = logging.getLogger(__name__)


def executors_of(log: EventLog | None, plan: Plan, *, since: datetime | None = None) -> ExecutorUse | None:
    """Return the executor use of a run; None if the log does not show it, with the reason in the log.

    Parameters
    ----------
    since
        The start of the run, in a session of the caller.
    """
    if log is None:
        return None
    cpus = int(dict(plan.spark_conf).get("spark.task.cpus", "1"))
    try:
        return executor_use(log.events(), task_cpus=cpus, since_ms=int(since.timestamp() * 1000) if since else None)
    except (FiresteelError, OSError, ValueError, LookupError, TypeError) as error:
        _log.warning("no executor timeline: %s in the event log below %s: %s", type(error).__name__, log.folder, error)
        return None
