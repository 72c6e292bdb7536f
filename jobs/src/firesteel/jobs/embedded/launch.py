"""`python -IS launch.py PARENT COMMAND...`: become COMMAND, which the kernel kills when the process PARENT ends.

A program of its own, and not `preexec_fn`: running Python between fork and exec of a process with threads can hang it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; outlives execve


def main() -> None:
    """Never returns."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
        sys.exit(f"ERROR prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("ERROR the parent ended before its child began")
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell: an argument list
    except OSError as error:
        sys.exit(f"ERROR {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
