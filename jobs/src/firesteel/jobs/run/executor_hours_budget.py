"""The limit `max_executor_hours` of a run, while the run is going on.

::

    every second: add the executor-seconds since the last one --> limit reached? -- yes --> cancel the jobs of the run

    before each interval: estimate its cost by the previous ones --> above the limit? -- yes --> do not start it
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from firesteel.conf.errors import RuntimeFault

if TYPE_CHECKING:
    from types import TracebackType

    from pyspark.sql import SparkSession

EVERY_S = 1.0
TASKS_END_S = 10.0
"""The longest wait for the tasks of cancelled jobs. Spark kills a Python worker two seconds after its task was cancelled."""
_log = logging.getLogger(__name__)


class ExecutorHoursBudget:
    """Counts executor-seconds in a thread. A context manager; without a limit it counts nothing.

    Parameters
    ----------
    limit_hours
        The most executor-hours that the run may cost; None for no limit.
    tag
        Job tag of the run: only jobs with this tag are cancelled.
    """

    def __init__(self, spark: SparkSession, limit_hours: float | None, tag: str, every_s: float = EVERY_S) -> None:
        self._context = spark.sparkContext
        self._limit_s = None if limit_hours is None else limit_hours * 3600
        self._tag, self._every_s = tag, every_s
        self._cost_s, self._bytes = 0.0, 0
        self._over = threading.Event()
        self._reached = threading.Event()
        self._interrupted = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="executor-hours", daemon=True)

    @property
    def reached(self) -> bool:
        """Whether the run reached the limit."""
        return self._reached.is_set()

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted."""
        return self._interrupted.is_set()

    def add_completed(self, input_bytes: int) -> None:
        """Record that an interval with so many bytes of input has ended: later ones are estimated by it."""
        self._bytes += input_bytes

    def check(self, interval: str, input_bytes: int) -> None:
        """Raise FS9011 when an interval would exceed the limit. The cost of the first interval is not known."""
        if self._limit_s is None:
            return
        expected_s = self._cost_s / self._bytes * input_bytes if self._bytes else 0.0
        if self.reached or self._cost_s + expected_s > self._limit_s:
            raise self.error(interval, expected_s)

    @contextmanager
    def tagged(self) -> Iterator[None]:
        """Tag the jobs that this thread starts within the block as the run's."""
        self._context.addJobTag(self._tag)
        try:
            yield
        finally:
            self._context.removeJobTag(self._tag)

    def cancel(self) -> None:
        """Cancel the run's active jobs."""
        self._context.cancelJobsWithTag(self._tag)

    def interrupt(self) -> None:
        """Cancel the run's jobs because the run is interrupted, and wait for their tasks. Their errors are no failures then."""
        self._interrupted.set()
        self._ask_jvm(self.cancel)
        self.wait_for_tasks()

    def wait_for_tasks(self) -> None:
        """Wait until the tasks of cancelled jobs have ended, which may still write files; not for ever: the session may have other jobs."""
        deadline = time.monotonic() + TASKS_END_S

        def wait() -> None:
            while self._has_tasks() and time.monotonic() < deadline:
                time.sleep(0.1)

        self._ask_jvm(wait)

    @staticmethod
    def _ask_jvm(call: Callable[[], None]) -> None:
        """Run a call in a thread, which has a connection to the JVM of its own: an interrupt may have broken that of this thread.

        A JVM that is gone has no jobs, and one that does not answer in `TASKS_END_S` is not waited for.
        """
        from py4j.protocol import Py4JError

        def run() -> None:
            with suppress(Py4JError, OSError):
                call()

        thread = threading.Thread(target=run, name="cancel", daemon=True)
        thread.start()
        thread.join(TASKS_END_S)

    def _has_tasks(self) -> bool:
        """Whether the session runs a job or a task. A task ends some time after its job was cancelled."""
        tracker = self._context._jsc.sc().statusTracker()  # noqa: SLF001 - PySpark's own tracker knows no executors
        return bool(tracker.getActiveJobIds()) or any(
            executor.numRunningTasks() for executor in tracker.getExecutorInfos()
        )

    def error(self, interval: str, expected_s: float = 0.0) -> RuntimeFault:
        """Return the error of the interval that was stopped, or not started."""
        assert self._limit_s is not None
        limit, cost = self._limit_s / 3600, self._cost_s / 3600
        if expected_s and not self.reached:
            problem = (
                f"{interval} was not started: the run has cost {cost:.3g} executor-hours, the interval would cost "
                f"{expected_s / 3600:.3g}, and max_executor_hours allows {limit:g}."
            )
        else:
            problem = (
                f"{interval} was stopped: the run has cost {cost:.3g} executor-hours, max_executor_hours is {limit:g}."
            )
        return RuntimeFault(
            "FS9011",
            f"{problem} Nothing of it was published; intervals before it stay published.",
            hint="Raise resources.executors.max_executor_hours, and run the same range again.",
        )

    def __enter__(self) -> Self:
        if self._limit_s is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        from py4j.protocol import Py4JError

        before = time.monotonic()
        while not self._over.wait(self._every_s):
            try:
                executors = self._executors()
            except (Py4JError, OSError) as error:  # if the context is gone, the run's own jobs say so
                _log.debug("the number of executors is not known: %s", error)
                continue
            now = time.monotonic()
            self._cost_s += executors * (now - before)
            before = now
            if self._limit_s is not None and self._cost_s >= self._limit_s:
                self._reached.set()
                # Every second again: a job that starts just after a cancel is not affected by it.
                self.cancel()

    def _executors(self) -> int:
        """Return the number of executors. On a local master the driver is the executor."""
        known = int(self._context._jsc.sc().statusStore().executorList(True).size())  # noqa: SLF001 - no public way
        return known if str(self._context.master).startswith("local") else known - 1
