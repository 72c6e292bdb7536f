"""End a driver and release what it held: `python -m firesteel_airflow.reaper MACHINE PID START WAIT_S -- CANCEL... -- RECOVER...`.

A process of its own and of the standard library alone: it is to be there at once, and to go on when the task that asked for it is
killed.

::

    SIGTERM to the driver --> it aborts its transaction, releases its lease, exits 130          (seconds)
          | still there after WAIT_S
    SIGKILL to its process group: driver, JVM, spark-submit
          |
    CANCEL: a driver elsewhere (a cluster's) may not publish  -->  RECOVER: the lease that a killed one left is released
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time

from firesteel_airflow.process import is_running, send_signal

_STEP_S = 0.1
_COMMAND_S = 300.0


def reap(machine: str, pid: int, process_start: str, wait_s: float, commands: list[list[str]]) -> bool:
    """End the process; whether it had to be killed. The commands run after a kill, and where nothing was left to end.

    The storage's record names the process. A process of another machine or user is left alone, and the commands run.
    """
    there = send_signal(machine, pid, process_start, signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    while there and is_running(pid, process_start) and time.monotonic() < deadline:
        time.sleep(_STEP_S)
    killed = there and send_signal(machine, pid, process_start, signal.SIGKILL, group=True)  # see start_new_session
    while killed and is_running(pid, process_start):
        time.sleep(_STEP_S)
    if killed or not there:
        for words in commands:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False)
    return killed


def main(words: list[str]) -> int:
    """See the module."""
    (machine, pid, process_start, wait_s), *commands = _split(words)
    reap(machine, int(pid), process_start, float(wait_s), commands)
    return 0


def _split(words: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
