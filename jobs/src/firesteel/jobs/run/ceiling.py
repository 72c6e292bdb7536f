"""`max_executor_hours` while a run is under way: what its executors have cost so far, and the end of it.

::

    a second, and another one --> executors that are there --> cost --- reached ---> the jobs of the run are cancelled
                                                                |
    an interval is about to begin --> would it fit, by what those before have cost? -- no --> it does not begin
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from firesteel.conf.errors import RuntimeFault

if TYPE_CHECKING:
    from types import TracebackType

    from pyspark.sql import SparkSession

EVERY_S = 1.0
_log = logging.getLogger(__name__)


class Ceiling:
    """Counts executor-seconds in a thread of its own. A context manager; without a limit it does nothing.

    Parameters
    ----------
    tag
        Job tag of the run: its jobs are cancelled, and nobody else's.
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
        """Whether the run was stopped."""
        return self._reached.is_set()

    @property
    def interrupted(self) -> bool:
        """Whether somebody cancelled the run."""
        return self._interrupted.is_set()

    def did(self, input_bytes: int) -> None:
        """An interval that read so much is done."""
        self._bytes += input_bytes

    def check(self, interval: str, input_bytes: int) -> None:
        """FS9011 when an interval would not fit any more; before the first nobody knows."""
        if self._limit_s is None:
            return
        wanted = self._cost_s / self._bytes * input_bytes if self._bytes else 0.0
        if self.reached or self._cost_s + wanted > self._limit_s:
            raise self.error(interval, wanted)

    @contextmanager
    def tagged(self) -> Iterator[None]:
        """Jobs that this thread starts within the block are the run's."""
        self._context.addJobTag(self._tag)
        try:
            yield
        finally:
            self._context.removeJobTag(self._tag)

    def cancel(self) -> None:
        """End the run's jobs that are running."""
        self._context.cancelJobsWithTag(self._tag)

    def interrupt(self) -> None:
        """Cancel the run's jobs because somebody cancels the run: what they raise then is no failure."""
        from py4j.protocol import Py4JError

        self._interrupted.set()
        with suppress(Py4JError, OSError):  # a JVM that is gone has no jobs
            self.cancel()

    def error(self, interval: str, wanted_s: float = 0.0) -> RuntimeFault:
        """What stopped the run at an interval."""
        assert self._limit_s is not None
        limit, cost = self._limit_s / 3600, self._cost_s / 3600
        if wanted_s and not self.reached:
            what = (
                f"{interval} was not begun: the run has cost {cost:.3g} executor-hours, the interval would cost "
                f"{wanted_s / 3600:.3g}, and max_executor_hours allows {limit:g}."
            )
        else:
            what = (
                f"{interval} was stopped: the run has cost {cost:.3g} executor-hours, max_executor_hours is {limit:g}."
            )
        return RuntimeFault(
            "FS9011",
            f"{what} Nothing of it was published; intervals before it stay.",
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
                there = self._executors()
            except (Py4JError, OSError) as error:  # if the context is gone, the run's own jobs say so
                _log.debug("Spark did not say how many executors there are: %s", error)
                continue
            now = time.monotonic()
            self._cost_s += there * (now - before)
            before = now
            if self._limit_s is not None and self._cost_s >= self._limit_s:
                self._reached.set()
                # Again and again: what was not begun yet when it was cancelled begins all the same.
                self.cancel()

    def _executors(self) -> int:
        """On one machine the driver is the executor."""
        known = int(self._context._jsc.sc().statusStore().executorList(True).size())  # noqa: SLF001 - no public way
        return known if str(self._context.master).startswith("local") else known - 1
