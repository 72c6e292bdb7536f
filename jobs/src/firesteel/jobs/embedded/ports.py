"""Ports of 127.0.0.1."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from firesteel.conf.errors import RuntimeFault

# Below Linux's ip_local_port_range (32768-60999): no outgoing connection can sit on one of these when a server wants it.
FIRST, LAST = 20_000, 32_000
TRIES = 2_000
PATIENCE_S = 5.0
"""How long a remembered port is waited for: a JVM that was killed lets go of its sockets some time after it is gone."""


def remembered_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """A free port for each name: the one of the last time when it is free, so that URIs people noted down stay true."""
    known: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    deadline = time.monotonic() + PATIENCE_S
    ports: dict[str, int] = {}
    for name in names:
        port = known.get(name, 0)
        while port and not is_free(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        taken = set(ports.values())
        ports[name] = port if port and port not in taken and is_free(port) else free_port(taken)
    file.write_text(json.dumps({**known, **ports}, indent=1) + "\n", encoding="utf-8")
    return ports


def free_port(taken: set[int] | None = None) -> int:
    """A port that nobody uses now and that is not in `taken`.

    Raises
    ------
    RuntimeFault
        FS9005 when none is found.
    """
    choose = random.SystemRandom()
    for _ in range(TRIES):
        port = choose.randrange(FIRST, LAST)
        if port not in (taken or ()) and is_free(port):
            return port
    raise RuntimeFault("FS9005", f"no free port between {FIRST} and {LAST}.", hint="End some servers of this machine.")


def is_free(port: int) -> bool:
    """Whether a server could bind the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the JVMs do: TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
