"""The listening sockets of processes, from the kernel's tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

LOOPBACK = "0100007F"  # 127.0.0.1, little endian


def listening(pids: Iterable[int]) -> list[str]:
    """Return the address of each listening TCP socket of the processes, in the format of /proc/net/tcp."""
    links = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed; a listening one is not
                links.add(str(fd.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in links:
                found.append(words[1].partition(":")[0])
    return found
