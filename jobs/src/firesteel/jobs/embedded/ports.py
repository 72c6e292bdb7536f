"""Choose free ports on 127.0.0.1."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from firesteel.conf.errors import RuntimeFault

# Below Linux's ip_local_port_range (32768-60999), so that no outgoing connection uses these ports.
FIRST, LAST = 20_000, 32_000
TRIES = 2_000
PATIENCE_S = 5.0
"""Seconds to wait for a stored port, because the kernel closes the sockets of a killed JVM with a delay."""


def remembered_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """Return a free port for each name. Stored ports are reused if they are free, so that URIs stay valid."""
    stored: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    deadline = time.monotonic() + PATIENCE_S
    ports: dict[str, int] = {}
    for name in names:
        port = stored.get(name, 0)
        while port and not is_free(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        taken = set(ports.values())
        ports[name] = port if port and port not in taken and is_free(port) else free_port(taken)
    file.write_text(json.dumps({**stored, **ports}, indent=1) + "\n", encoding="utf-8")
    return ports


def free_port(taken: set[int] | None = None) -> int:
    """Return a free port that is not in `taken`.

    Raises
    ------
    RuntimeFault
        FS9005 if no port is free.
    """
    choose = random.SystemRandom()
    for _ in range(TRIES):
        port = choose.randrange(FIRST, LAST)
        if port not in (taken or ()) and is_free(port):
            return port
    raise RuntimeFault(
        "FS9005", f"there is no free port between {FIRST} and {LAST}.", hint="Stop some servers on this machine."
    )


def is_free(port: int) -> bool:
    """Return whether a server can bind the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as JVMs do, to ignore TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
