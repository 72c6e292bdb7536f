"""The settings of Spark's dynamic allocation.

::

    planned bytes, history --propose--> initially N, at most M -------.
    resources.executors ------ min, max, timeouts, budget ------------+--> spark.dynamicAllocation.*, decommission, ...
    cost of an executor ------> idle timeout, least work of a slot ---'

Spark sees pending tasks and idle executors, but not future work. A plan knows the future work. It requests the initial executors
by the planned bytes, requests more while tasks wait, up to the useful number, and releases an executor when keeping it costs more
than starting a new one.
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
"""Start-up time of an executor: JVM, registration, imports of the first Python worker, loading the model."""
WORTH_A_SLOT_S = 20.0
"""Least work per slot that justifies another executor, if `utilisation` is not set."""
BACKLOG_S = 1.0
"""Time that tasks wait before Spark requests 1 executor, then 2, 4, 8 and so on. Spark needs whole seconds."""
LONGEST_IDLE_S = 60.0
"""Spark's default idle timeout, and the longest derived one."""
HISTORY_MARGIN = 2.0
"""Ratio of the largest number of executors to the useful number by history. History may be wrong, and a limit that is too low makes
a run very slow. Each additional executor costs only a start and an idle time."""


def allocation_conf(resources: Resources, executors: Executors, proposal: ResourcePlan) -> dict[str, str]:
    """Return Spark's settings for the executors of a cluster."""
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
        # Executors hold the map outputs: Spark must track which of them a running job still needs.
        conf["spark.dynamicAllocation.shuffleTracking.enabled"] = "true"
        if executors.decommission:
            # By default, an executor with unused map outputs stays until the driver's garbage collection. With this timeout it
            # is released, and its blocks migrate to other executors.
            conf["spark.dynamicAllocation.shuffleTracking.timeout"] = whole_seconds(2 * idle)
    return conf


def speculation_conf(resources: Resources) -> dict[str, str]:
    """Return Spark's settings for speculation."""
    speculation = resources.speculation
    if speculation is None:
        return {}
    return {
        "spark.speculation": "true",
        "spark.speculation.quantile": f"{speculation.quantile:g}",
        "spark.speculation.multiplier": f"{speculation.multiplier:g}",
        "spark.speculation.minTaskRuntime": whole_seconds(speculation.min_runtime),
    }


def initial(executors: Executors, proposal: ResourcePlan) -> int:
    """Return the initial number of executors."""
    return max(executors.min, proposal.executors) if executors.initial == "auto" else executors.initial


def whole_seconds(seconds: float) -> str:
    """Return a time in whole seconds, rounded up: Spark would read less than 1 s as 0."""
    return f"{math.ceil(seconds)}s"


def min_slot_work(executors: Executors, idle_s: float) -> float:
    """Return the least seconds of work per slot with which an executor reaches `utilisation`."""
    if executors.utilisation is None:
        return WORTH_A_SLOT_S
    return (START_S + idle_s) * executors.utilisation / (1 - executors.utilisation)


def useful_executors(executors: Executors, work_s: float, at_once: int, idle_s: float) -> tuple[int, int]:
    """Return the number of executors with enough work, and the largest allowed number.

    Parameters
    ----------
    work_s
        Seconds of work for one slot, by history.
    at_once
        Slots per executor.
    """
    useful = max(1, math.ceil(work_s / min_slot_work(executors, idle_s) / at_once))
    return useful, max(math.ceil(useful * HISTORY_MARGIN), executors.min)


def idle_timeout(executors: Executors, earlier: Sequence[LedgerRecord], intervals: int) -> tuple[float, str]:
    """Return the idle timeout in seconds, and its reason.

    A timeout equal to the start-up time costs at most twice the best choice, whenever the next task arrives (the ski rental
    problem). Between two intervals the driver audits and publishes. If the length of this pause is known, the timeout is longer
    than the pause.
    """
    if executors.idle_timeout != "auto":
        return executors.idle_timeout, ""
    pause = pause_between(earlier)
    if intervals > 1 and pause is not None and START_S < 1.5 * pause <= LONGEST_IDLE_S:
        return math.ceil(1.5 * pause), f"the pause between two intervals is about {pause:.0f} s"
    return START_S, "a new one takes about as long to start"


def pause_between(earlier: Sequence[LedgerRecord]) -> float | None:
    """Return the seconds between the tasks of two intervals, when the driver audits and publishes; None without history."""
    pauses = [pause for record in earlier if record.work_seconds > 0 and (pause := _pause(record)) is not None]
    return statistics.median(pauses) if pauses else None


def _pause(record: LedgerRecord) -> float | None:
    """Return the seconds of an interval without a running task. The ledger's times are whole seconds."""
    try:
        whole = datetime.fromisoformat(record.ended_at) - datetime.fromisoformat(record.started_at)
    except ValueError:
        return None
    return max(0.0, whole.total_seconds() - record.work_seconds)
