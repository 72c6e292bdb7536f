"""SIGINT and SIGTERM end a driver alike: on its way out the transaction aborts and the lease is released."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

CANCELLED = "Cancelled. Intervals already published stay; the others are as they were."
CANCELLED_EXIT = 130


def end_politely() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt, once: the clean-up for one is not interrupted by the next.

    A driver may be told twice: by an impatient person, or by Linux or a client when that dies or is told itself.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # `nohup` and a shell's `&` leave it ignored
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if not interrupted(sys.exception()):  # what the interrupted code handles: in `finally`, `except` and `__exit__`
        raise KeyboardInterrupt


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is an interruption, or was raised while one was being handled."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def without_interrupts(record: logging.LogRecord) -> bool:
    """A filter of log records: drops those that show the trace of an interruption."""
    error = record.exc_info[1] if record.exc_info else None
    return not interrupted(error)
