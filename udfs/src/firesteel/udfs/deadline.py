"""Limit the time of one model call without ending the worker.

A kernel timer interrupts the main thread, in which Spark's Python workers score. It interrupts Python code and blocking system calls,
but not native code that never returns to the interpreter. For such code the worker exits after a grace period. Spark retries the task
with one process per call (`guard.py`), which can always be killed.
"""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable
from typing import Any

_GRACE_S = 1.0
_STDERR = 2


class BatchTimeout(Exception):
    """A model call exceeded the `timeout`."""


class _Alarm(BaseException):
    """Signals the timeout. Not an Exception, so that a model's `except Exception` does not catch it."""


def as_exceptions(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a call to convert a `BaseException` of a library, such as Rust's `PanicException`, to an `Exception` of the same name."""

    def called(batch: Any) -> Any:
        try:
            return call(batch)
        except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit, _Alarm):
            raise
        except BaseException as error:
            raise type(type(error).__name__, (Exception,), {})(str(error)) from error

    return called


def with_timeout(
    timeout_s: float | None, call: Callable[[Any], Any], late: Callable[[BatchTimeout], Exception] = lambda error: error
) -> Callable[[Any], Any]:
    """Wrap a call with a timeout in seconds.

    Parameters
    ----------
    late
        Returns the error to raise instead of a `BatchTimeout`.

    Raises
    ------
    BatchTimeout
        The returned function raises it when a call exceeds the timeout.
    """
    if timeout_s is None:
        return call

    def limited(batch: Any) -> Any:
        previous_handler = signal.signal(signal.SIGALRM, _raise_alarm)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        faulthandler.dump_traceback_later(2 * timeout_s + _GRACE_S, exit=True, file=_STDERR)  # its thread needs no GIL
        try:
            return call(batch)
        except _Alarm:
            raise late(BatchTimeout(f"no result within {timeout_s:g} s")) from None
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous_handler)

    return limited


def _raise_alarm(_signal: int, _frame: object) -> None:
    raise _Alarm
