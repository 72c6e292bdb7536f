"""When executors come and go, as Spark's dynamic allocation is told: one consistent set of settings.

::

    planned bytes, history --propose--> begin with N, at most M ------.
    resources.executors ------ min, max, timeouts, budget ------------+--> spark.dynamicAllocation.*, decommission, ...
    what an executor costs ---> idle timeout, worth of a slot --------'

Spark sees tasks that wait and executors that idle, and nothing of what is to come. A plan knows what is to come: it begins with
what the bytes ask for, lets more come at once while tasks wait, up to the number that is worth it, and lets an executor go when
keeping it costs more than a new one would.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime

from firesteel.pipelines.plan.model import ResourcePlan
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.spec.model import Executors, Resources

START_S = 10.0
"""What an executor costs before it is of use: JVM, registration, the first Python worker's imports, the model."""
WORTH_A_SLOT_S = 20.0
"""Less work than this does not pay for another executor, where no utilisation is asked for."""
BACKLOG_S = 1.0
"""Spark asks for one executor when tasks have waited that long, then for 2, 4, 8 ... while they still do. It counts in whole
seconds."""
LONGEST_IDLE_S = 60.0
"""Spark's own idle timeout: nothing derived is longer."""
HISTORY_MARGIN = 2.0
"""A plan lets this many times the executors come that are worth it by history: history may be wrong, and a run that cannot grow
takes for ever. Twice as many cost a start and an idle time each."""


def allocation_conf(resources: Resources, executors: Executors, proposal: ResourcePlan) -> dict[str, str]:
    """Spark's settings for executors of a cluster."""
    idle = proposal.idle_timeout_s or (START_S if executors.idle_timeout == "auto" else executors.idle_timeout)
    backlog = BACKLOG_S if executors.backlog_timeout == "auto" else executors.backlog_timeout
    conf = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(executors.min),
        "spark.dynamicAllocation.initialExecutors": str(initial(executors, proposal)),
        "spark.dynamicAllocation.executorIdleTimeout": whole_seconds(idle),
        "spark.dynamicAllocation.schedulerBacklogTimeout": whole_seconds(backlog),
        "spark.dynamicAllocation.sustainedSchedulerBacklogTimeout": whole_seconds(backlog),
        "spark.executor.cores": str(executors.cores),
        "spark.executor.memory": executors.memory,
    }
    most = proposal.max_executors or executors.max
    if most is not None:
        conf["spark.dynamicAllocation.maxExecutors"] = str(most)
    if executors.python_memory:
        conf["spark.executor.pyspark.memory"] = executors.python_memory
    if executors.decommission:
        conf |= {"spark.decommission.enabled": "true", "spark.storage.decommission.enabled": "true"}
    if resources.shuffle.manager == "sort":
        # Map outputs live on executors: Spark must know which hold some that a running job reads.
        conf["spark.dynamicAllocation.shuffleTracking.enabled"] = "true"
        if executors.decommission:
            # Those that no running job reads keep nobody: by default such executors stay until the driver's heap is
            # collected. What is left moves to executors that stay.
            conf["spark.dynamicAllocation.shuffleTracking.timeout"] = whole_seconds(2 * idle)
    return conf


def speculation_conf(resources: Resources) -> dict[str, str]:
    """Spark's settings for tasks that are started twice."""
    asked = resources.speculation
    if asked is None:
        return {}
    return {
        "spark.speculation": "true",
        "spark.speculation.quantile": f"{asked.quantile:g}",
        "spark.speculation.multiplier": f"{asked.multiplier:g}",
        "spark.speculation.minTaskRuntime": whole_seconds(asked.min_runtime),
    }


def initial(executors: Executors, proposal: ResourcePlan) -> int:
    """How many to begin with."""
    return max(executors.min, proposal.executors) if executors.initial == "auto" else executors.initial


def whole_seconds(seconds: float) -> str:
    """As Spark reads the times of dynamic allocation: less than a second would be none."""
    return f"{math.ceil(seconds)}s"


def worth_of_a_slot(executors: Executors, idle_s: float) -> float:
    """Seconds of work that a slot must have, so that its executor works `utilisation` of the time it is there."""
    if executors.utilisation is None:
        return WORTH_A_SLOT_S
    return (START_S + idle_s) * executors.utilisation / (1 - executors.utilisation)


def worth_it(executors: Executors, work_s: float, at_once: int, idle_s: float) -> tuple[int, int]:
    """Executors that have enough to do, and the most that may come.

    Parameters
    ----------
    work_s
        Seconds of work of one slot, by history.
    at_once
        Slots of an executor.
    """
    worth = max(1, math.ceil(work_s / worth_of_a_slot(executors, idle_s) / at_once))
    return worth, max(math.ceil(worth * HISTORY_MARGIN), executors.min)


def idle_timeout(executors: Executors, earlier: Sequence[LedgerRecord], intervals: int) -> tuple[float, str]:
    """How long an executor may idle, and why.

    To keep an idle executor for as long as a new one costs is never more than twice the price of the best choice, whenever
    the next task comes (the rule for renting or buying skis). Between two intervals the driver audits and publishes: where
    that pause is known, it is bridged.
    """
    if executors.idle_timeout != "auto":
        return executors.idle_timeout, ""
    pause = pause_between(earlier)
    if intervals > 1 and pause is not None and START_S < 1.5 * pause <= LONGEST_IDLE_S:
        return math.ceil(1.5 * pause), f"the pause between two intervals is about {pause:.0f} s"
    return START_S, "a new one costs about as much"


def pause_between(earlier: Sequence[LedgerRecord]) -> float | None:
    """Seconds between the tasks of two intervals, in which the driver audits and publishes; None without history."""
    pauses = [pause for each in earlier if each.work_seconds > 0 and (pause := _pause(each)) is not None]
    return statistics.median(pauses) if pauses else None


def _pause(record: LedgerRecord) -> float | None:
    """Seconds of an interval in which no task ran: the ledger's times are whole seconds."""
    try:
        whole = datetime.fromisoformat(record.ended_at) - datetime.fromisoformat(record.started_at)
    except ValueError:
        return None
    return max(0.0, whole.total_seconds() - record.work_seconds)
