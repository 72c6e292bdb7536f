"""Worker slots: several intervals at once, each in a thread with its own Spark session.

::

    planned --order--> waiting --capacity?--> running, each in a slot --> done
                          |                     |  own session, scheduler pool and lease
                          `-- first failure: no interval starts any more   `-- interrupt: jobs cancelled, transactions aborted

Each slot has its own session because views of two intervals have the same names. It has its own scheduler pool so that the small
jobs of one interval (gates, row counts) run beside the tasks of the others. In FIFO order they would wait for all of these.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from pyspark import SparkContext

    from firesteel.pipelines.plan.model import IntervalPlan, Plan

POLL_S = 0.5
"""Seconds between two checks whether the cluster has capacity for another interval."""
POOL = "spark.scheduler.pool"
T = TypeVar("T")
S = TypeVar("S")


def execution_order(plan: Plan, work: Sequence[IntervalPlan], at_once: int) -> list[IntervalPlan]:
    """Return the intervals in the order in which they start.

    One at a time, intervals run in the order of time. Several at once, the largest starts first: if it started last, it would run
    alone at the end while executors idle. A plan with a drift gate keeps the order of time, since it compares with the interval
    before.
    """
    compares = any(expectation.type == "drift" for gate in plan.gates for expectation in gate.expectations)
    if at_once == 1 or compares:
        return list(work)
    return sorted(work, key=lambda interval: -interval.input_bytes)


def has_capacity(context: SparkContext, plan: Plan) -> bool:
    """Return whether fewer tasks wait than the cluster has, or can get, task slots. If not, another interval would only wait."""
    tracker = context.statusTracker()
    waiting = 0
    for stage in tracker.getActiveStageIds():
        info = tracker.getStageInfo(stage)
        if info is not None:
            waiting += max(0, info.numTasks - info.numCompletedTasks - info.numActiveTasks)
    conf = dict(plan.spark_conf)
    at_once = max(1, int(conf.get("spark.executor.cores", "1")) // int(conf.get("spark.task.cpus", "1")))
    return waiting < max(context.defaultParallelism, plan.resources.max_executors * at_once)


class WorkerSlots(Generic[S, T]):
    """Runs intervals in threads, at most one in each slot at a time.

    Parameters
    ----------
    slots
        The resource that an interval has for itself while it runs, such as a session.
    has_capacity
        Whether another interval may start while others run.
    cancel
        Called when the caller is interrupted, repeatedly until all intervals have ended.
    """

    def __init__(self, slots: Sequence[S], has_capacity: Callable[[], bool], cancel: Callable[[], None]) -> None:
        self._free: queue.SimpleQueue[S] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._count, self._has_capacity, self._cancel = len(slots), has_capacity, cancel

    def run(
        self, work: Sequence[IntervalPlan], start: Callable[[IntervalPlan], bool], do: Callable[[S, IntervalPlan], T]
    ) -> Generator[tuple[IntervalPlan, T]]:
        """Run all intervals; yield the results as the intervals end.

        Parameters
        ----------
        start
            Called in the caller's thread before an interval starts. If it returns False, no interval starts any more.
        do
            Called in a thread of the slot.
        """
        waiting = deque(work)
        running: dict[Future[T], IntervalPlan] = {}
        with ThreadPoolExecutor(self._count, thread_name_prefix="interval") as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self._count and (not running or self._has_capacity()):
                        if not start(waiting[0]):
                            waiting.clear()
                            break
                        interval = waiting.popleft()
                        running[pool.submit(self._in_slot, do, interval)] = interval
                    if not running:
                        break
                    full = not waiting or len(running) == self._count
                    done, _ = wait(running, None if full else POLL_S, FIRST_COMPLETED)
                    for future in done:
                        yield running.pop(future), future.result()
            except BaseException:
                while running:
                    self._cancel()
                    done, _ = wait(running, POLL_S, FIRST_COMPLETED)
                    for future in done:
                        del running[future]
                raise

    def _in_slot(self, do: Callable[[S, IntervalPlan], T], interval: IntervalPlan) -> T:
        slot = self._free.get()
        try:
            return do(slot, interval)
        finally:
            self._free.put(slot)
