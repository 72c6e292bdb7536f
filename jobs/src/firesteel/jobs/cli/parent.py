"""Let a driver exit when its parent process dies, if the parent asks for it."""

from __future__ import annotations

import ctypes
import os
import signal

END_WITH_PARENT = "FIRESTEEL_END_WITH_PARENT"
"""The variable that holds the id of the parent process. When the parent dies, this process gets SIGTERM."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent process dies, if the environment names the parent.

    A parent that died before this call is detected by its id: the process has another parent then.
    """
    parent = os.environ.pop(END_WITH_PARENT, "")
    if not parent.isdigit():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)
