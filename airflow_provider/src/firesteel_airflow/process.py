"""Who this process is, so that another one on the same machine can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def machine_id() -> str:
    """This machine, this boot, this PID namespace: within one, a PID means one thing. Empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is a name, not a path
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {namespace}"


def started_at(pid: int) -> str:
    """When a process started, in ticks since the boot; empty when there is no such process, or only its remains."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def is_dead(machine: str, pid: int, start: str) -> bool:
    """Whether a process is known to be gone. False when it lives, or cannot be seen from here."""
    return bool(machine) and machine == machine_id() and started_at(pid) != start


def children(pid: int) -> list[int]:
    """The processes that a process started and that live, oldest first, by /proc; nothing where there is none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields and fields[1] == str(pid):
            found.append((int(fields[19]), int(entry.name)))
    return [child for _, child in sorted(found)]


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from field 3 on (state, ppid, ..., starttime is field 22); empty when there is no such process, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    fields = text.rpartition(")")[2].split()  # proc(5): the command, in parentheses, may hold anything
    return [] if fields[0] in {"Z", "X"} else fields
