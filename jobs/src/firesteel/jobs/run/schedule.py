"""Which interval runs next, and how many at once: back-pressure where the cluster is full, the largest first where it is cheaper.

::

    planned --order--> waiting --room?--> in flight, each in a lane --> done
                          |                 |  a session, a pool and a lease of its own
                          `-- first failure: nothing more is begun    `-- interrupted: jobs cancelled, transactions aborted

A lane is a thread with a session of its own: views of two intervals have the same names. Fair pools let the small jobs of one
interval, its gates and its audit, run beside the tasks of the others; in order of age they would wait for all of them.
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

LOOK_S = 0.5
"""How often a full cluster is asked whether there is room."""
POOL = "spark.scheduler.pool"
T = TypeVar("T")
L = TypeVar("L")


def in_order(plan: Plan, work: Sequence[IntervalPlan], at_once: int) -> list[IntervalPlan]:
    """The order in which intervals run.

    One after the other in time's order. Several at once the largest first: a large one that is begun last runs alone in the
    end, on executors that wait for it. Where a gate compares with the interval before, time's order stays.
    """
    compares = any(each.type == "drift" for gate in plan.gates for each in gate.expectations)
    if at_once == 1 or compares:
        return list(work)
    return sorted(work, key=lambda interval: -interval.input_bytes)


def has_room(context: SparkContext, plan: Plan) -> bool:
    """Whether fewer tasks wait than all slots that there are, or can be, would take: another interval would not only hold a lease."""
    tracker = context.statusTracker()
    waiting = 0
    for stage in tracker.getActiveStageIds():
        info = tracker.getStageInfo(stage)
        if info is not None:
            waiting += max(0, info.numTasks - info.numCompletedTasks - info.numActiveTasks)
    conf = dict(plan.spark_conf)
    at_once = max(1, int(conf.get("spark.executor.cores", "1")) // int(conf.get("spark.task.cpus", "1")))
    return waiting < max(context.defaultParallelism, plan.resources.max_executors * at_once)


class Lanes(Generic[L, T]):
    """Runs work in lanes, at most as many at once as there are lanes.

    Parameters
    ----------
    lanes
        What a piece of work has to itself while it runs, such as a session.
    room
        Whether another one may begin while others run.
    stop
        Called when the caller is interrupted, again and again until all that runs has ended.
    """

    def __init__(self, lanes: Sequence[L], room: Callable[[], bool], stop: Callable[[], None]) -> None:
        self._lanes: queue.SimpleQueue[L] = queue.SimpleQueue()
        for lane in lanes:
            self._lanes.put(lane)
        self._count, self._room, self._stop = len(lanes), room, stop

    def run(
        self, work: Sequence[IntervalPlan], begin: Callable[[IntervalPlan], bool], do: Callable[[L, IntervalPlan], T]
    ) -> Generator[tuple[IntervalPlan, T]]:
        """Do all the work; results as they come.

        Parameters
        ----------
        begin
            Called in the caller's thread before a piece begins; where it is False nothing more is begun.
        do
            Called in a thread of the lane.
        """
        waiting = deque(work)
        flying: dict[Future[T], IntervalPlan] = {}
        with ThreadPoolExecutor(self._count, thread_name_prefix="interval") as pool:
            try:
                while waiting or flying:
                    while waiting and len(flying) < self._count and (not flying or self._room()):
                        if not begin(waiting[0]):
                            waiting.clear()
                            break
                        interval = waiting.popleft()
                        flying[pool.submit(self._in_lane, do, interval)] = interval
                    if not flying:
                        break
                    full = not waiting or len(flying) == self._count
                    done, _ = wait(flying, None if full else LOOK_S, FIRST_COMPLETED)
                    for each in done:
                        yield flying.pop(each), each.result()
            except BaseException:
                while flying:
                    self._stop()
                    done, _ = wait(flying, LOOK_S, FIRST_COMPLETED)
                    for each in done:
                        del flying[each]
                raise

    def _in_lane(self, do: Callable[[L, IntervalPlan], T], interval: IntervalPlan) -> T:
        lane = self._lanes.get()
        try:
            return do(lane, interval)
        finally:
            self._lanes.put(lane)
