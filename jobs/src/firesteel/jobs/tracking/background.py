"""Send calls to MLflow in order, in one thread, while the pipeline scores."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
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
        future = self._pool.submit(call)
        self._pending.append(future)
        return future

    def wait(self) -> list[BaseException]:
        """Wait until all calls have ended, and end the thread. Return the errors that the calls raised."""
        errors = [error for future in self._pending if (error := future.exception()) is not None]
        self._pending = []
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        return errors
