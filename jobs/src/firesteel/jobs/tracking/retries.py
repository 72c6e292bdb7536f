"""Repeat requests that a busy MLflow server refuses (429, 503) more often than others, and wait as long as it says, with limits.

MLflow has one number of retries for all failures. A server that is down needs few, so that a run does not wait for minutes; a server that
answers 429 or 503 needs more. `sent_once` (create.py) still sends a request once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from urllib3.util import Retry

if TYPE_CHECKING:
    from types import TracebackType

    from urllib3.connectionpool import ConnectionPool
    from urllib3.response import BaseHTTPResponse

BUSY = frozenset({429, 503})
BUSY_RETRIES = 4
"""Retries of a request that the server refuses. The pauses without Retry-After are 0, 2, 4 and 8 s, and jitter."""
LONGEST_PAUSE_S = 10.0
"""Longest pause that Retry-After can ask for."""
IMPATIENT_S = 60.0
"""Seconds after a request was refused for the last time in which other requests are not repeated as often: a run sends many."""

open_blocks = 0
"""Blocks of `mlflow_environment` that are open in this process."""
_impatient_until = 0.0


class BusyRetry(Retry):
    """urllib3's Retry, with retries of its own for 429 and 503 inside `mlflow_environment`."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Return the retries that are left after a failure, or raise MaxRetryError."""
        global _impatient_until  # noqa: PLW0603 - all requests of the process go to the same few servers
        retries = self
        if open_blocks and self.total and response is not None and response.status in BUSY:
            refused = sum(past.status in BUSY for past in self.history)
            if refused >= BUSY_RETRIES:
                _impatient_until = time.monotonic() + IMPATIENT_S
                retries = self.new(total=0, status=0)
            elif not _impatient():
                retries = self.new(total=self.total + 1, status=(self.status or 0) + 1)
        return Retry.increment(retries, method, url, response, error, _pool, _stacktrace)

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Return the seconds of Retry-After, with a limit."""
        pause_s = super().get_retry_after(response)
        if not open_blocks or pause_s is None:
            return pause_s
        return None if _impatient() else min(pause_s, LONGEST_PAUSE_S)


def _impatient() -> bool:
    return time.monotonic() < _impatient_until


def install() -> None:
    """Make MLflow's client use BusyRetry. Outside `mlflow_environment` it is urllib3's Retry."""
    from mlflow.utils import request_utils

    request_utils.Retry = BusyRetry  # type: ignore[attr-defined]
