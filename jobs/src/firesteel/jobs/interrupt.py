"""Interrupts: SIGINT and SIGTERM end a driver in the same way. The transaction aborts and the lease is released."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

CANCELLED = "Cancelled. Published intervals stay published; the others are unchanged."
CANCELLED_EXIT = 130


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, but only once: a second signal does not interrupt the clean-up.

    A driver may get two signals: from a user, from Linux or from a client that ends.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # `nohup` and a shell's `&` leave it ignored
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if not interrupted(sys.exception()):  # not while code in `finally`, `except` or `__exit__` handles the first one
        raise KeyboardInterrupt


def interrupted(error: BaseException | None) -> bool:
    """Return whether an error is an interrupt, or was raised while one was handled."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def without_interrupts(record: logging.LogRecord) -> bool:
    """Drop log records with the traceback of an interrupt (a filter for `logging`)."""
    error = record.exc_info[1] if record.exc_info else None
    return not interrupted(error)
