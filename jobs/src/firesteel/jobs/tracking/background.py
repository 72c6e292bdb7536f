"""Send calls to MLflow in order, in one thread, while the pipeline scores."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class BackgroundCalls:
    """A queue of calls."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[Any]] = []

    def add(self, call: Callable[[], T]) -> Future[T]:
        """Add a call. It starts when those before it have ended."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="firesteel-mlflow")
        future = self._pool.submit(copy_context().run, call)
        self._pending.append(future)
        return future

    def wait(self, limit_s: float | None = None) -> list[BaseException]:
        """Wait until all calls have ended, and end the thread. Return the errors that the calls raised.

        Parameters
        ----------
        limit_s
            Seconds after which the calls that have not started are discarded.
        """
        _, late = wait(self._pending, limit_s)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=bool(late))
            self._pool = None
        started = [future for future in self._pending if not future.cancelled()]
        self._pending = []
        return [error for future in started if (error := future.exception()) is not None]
