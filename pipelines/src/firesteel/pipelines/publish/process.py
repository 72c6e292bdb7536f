"""Identify processes, so that another process on the same machine can check whether they still run."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path


def machine_id() -> str:
    """Return an id of the machine, the boot and the PID namespace, in which a PID is unique; empty without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is a name, not a path
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {namespace}"


def started_at(pid: int) -> str:
    """Return the start time of a process in ticks since the boot; empty for a missing or zombie process."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def is_dead(machine: str, pid: int, start: str) -> bool:
    """Return whether a process has certainly ended; False if it runs or is on another machine."""
    return bool(machine) and machine == machine_id() and not is_running(pid, start)


def is_running(pid: int, start: str) -> bool:
    """Return whether a process of this machine runs and started at `start`, as `started_at` returned it."""
    return pid > 0 and bool(start) and started_at(pid) == start


def send_signal(machine: str, pid: int, start: str, number: signal.Signals, *, group: bool = False) -> bool:
    """Signal a process if it is certainly the one that a record describes, and return whether a signal was sent.

    Others may be able to write the record. The process must therefore be on this machine, belong to this user and have started at
    `start`. Zero and negative numbers, which mean process groups, are refused.

    Parameters
    ----------
    group
        Signal the process's group if the process leads one.
    """
    if not machine or machine != machine_id() or pid <= 0:
        return False
    try:
        # The descriptor keeps naming this process when it ends and another one gets its number.
        descriptor = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return False
    try:
        if not is_running(pid, start) or _user_of(pid) != os.geteuid():
            return False
        if group and os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def children(pid: int) -> list[int]:
    """Return the running child processes of a process, oldest first; empty without /proc."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields and fields[1] == str(pid):
            processes.append((int(fields[19]), int(entry.name)))
    return [child for _, child in sorted(processes)]


def _user_of(pid: int) -> int:
    """Return the effective user of a process. The owner of /proc/PID is root where a process has changed its user."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return next(int(line.split()[2]) for line in text.splitlines() if line.startswith("Uid:"))


def _stat(pid: int) -> list[str]:
    """Return /proc/PID/stat from field 3 on (state, ppid, ...; starttime is field 22); empty for a missing or zombie process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    fields = text.rpartition(")")[2].split()  # proc(5): the command, in parentheses, may contain any character
    return [] if fields[0] in {"Z", "X"} else fields
