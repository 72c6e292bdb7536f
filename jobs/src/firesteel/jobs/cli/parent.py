"""A driver that ends when the process that started it dies, where that process asks for it."""

from __future__ import annotations

import ctypes
import os
import signal

END_WITH_PARENT = "FIRESTEEL_END_WITH_PARENT"
"""The id of the process that starts us: when it dies, however it dies, this one is asked to end."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have Linux send SIGTERM when our parent dies, where the environment says so.

    A parent that died before this was set is seen by its id: we have another one by then.
    """
    wanted = os.environ.pop(END_WITH_PARENT, "")
    if not wanted.isdigit():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(wanted):
        os.kill(os.getpid(), signal.SIGTERM)
