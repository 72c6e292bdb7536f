"""Execute a command that the kernel kills when its parent ends: `python -IS launch.py PARENT COMMAND...`.

This is a separate program instead of a `preexec_fn`, because Python code between fork and exec can deadlock in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; outlives execve


def main() -> None:
    """Replace this process by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
        sys.exit(f"ERROR prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("ERROR the parent ended before its child started")
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell: an argument list
    except OSError as error:
        sys.exit(f"ERROR {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
