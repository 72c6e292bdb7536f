"""A deadline for one call of a model: a batch that hangs is cut, and the worker lives on.

The kernel's timer interrupts the main thread, which is where Spark's Python workers score. It cuts Python code and system calls that
wait. Native code that never returns to the interpreter is not cut so: a while later the worker ends itself, and the task is tried
again with a process for each call (`guard.py`), which can be cut whatever it does.
"""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable
from typing import Any

_GRACE_S = 1.0
_STDERR = 2


class BatchTimeout(Exception):
    """A call of the model took longer than `timeout`."""


class _Alarm(BaseException):
    """Not an Exception, so that a model's own `except Exception` does not swallow it."""


def ordinary_errors(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The call, with an `Exception` of the same name for what a library raises beside exceptions, such as Rust's `PanicException`."""

    def called(batch: Any) -> Any:
        try:
            return call(batch)
        except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit, _Alarm):
            raise
        except BaseException as error:
            raise type(type(error).__name__, (Exception,), {})(str(error)) from error

    return called


def within(
    timeout_s: float | None, call: Callable[[Any], Any], late: Callable[[BatchTimeout], Exception] = lambda error: error
) -> Callable[[Any], Any]:
    """The call, with a deadline for each use.

    Parameters
    ----------
    late
        What is raised in place of a `BatchTimeout`.

    Raises
    ------
    BatchTimeout
        From the returned function, when the time is over.
    """
    if timeout_s is None:
        return call

    def limited(batch: Any) -> Any:
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        faulthandler.dump_traceback_later(2 * timeout_s + _GRACE_S, exit=True, file=_STDERR)  # a thread without the GIL
        try:
            return call(batch)
        except _Alarm:
            raise late(BatchTimeout(f"no answer within {timeout_s:g} s")) from None
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return limited


def _ring(_signal: int, _frame: object) -> None:
    raise _Alarm
