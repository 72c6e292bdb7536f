"""The usable RDMA devices of this machine: those of a guest, or real ones."""

from __future__ import annotations

import contextlib

from firesteel.rdma_shuffle.transport.verbs.device_port import INFINIBAND, choose_port
from firesteel.rdma_shuffle.transport.verbs.library import load
from firesteel.rdma_shuffle.transport.verbs.unavailable import VerbsUnavailable


def _devices() -> list[str]:
    """Return the names of the devices that verbs can use."""
    names = []
    for name in sorted(path.name for path in INFINIBAND.iterdir()) if INFINIBAND.is_dir() else []:
        with contextlib.suppress(VerbsUnavailable):
            choose_port(name)
            load()
            names.append(name)
    return names


RDMA_DEVICES = _devices()

VERBS = ["--transport", "verbs", *(["--device", "rxe{number}"] if {"rxe0", "rxe1"} <= set(RDMA_DEVICES) else [])]
"""Options of `Services` under which nodes read by verbs, each on a device of its own in a guest."""
