"""SIGTERM ends a driver as Ctrl-C does: on its way out the transaction aborts and the lease is released."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_politely() -> None:
    """Have SIGTERM raise KeyboardInterrupt, once: what is being undone for one is not interrupted by the next.

    A driver may be told twice: by who ends it, and by Linux or a client when that dies or is told itself.
    """
    signal.signal(signal.SIGTERM, _interrupt)


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
