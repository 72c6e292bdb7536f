"""The RDMA devices of this machine, if it has any that can be used: those of a guest, or real ones."""

from __future__ import annotations

import pytest

from firesteel.rdma_shuffle.transport.verbs.device_port import INFINIBAND, choose_port
from firesteel.rdma_shuffle.transport.verbs.library import load
from firesteel.rdma_shuffle.transport.verbs.unavailable import VerbsUnavailable


def _devices() -> tuple[list[str], str]:
    """Names, and why there are none."""
    found, reason = [], f"no RDMA device in {INFINIBAND}"
    for name in sorted(path.name for path in INFINIBAND.iterdir()) if INFINIBAND.is_dir() else []:
        try:
            choose_port(name)
            load()
            found.append(name)
        except VerbsUnavailable as absent:
            reason = absent.what
    return found, reason


RDMA_DEVICES, _WHY = _devices()
needs_rdma = pytest.mark.skipif(not RDMA_DEVICES, reason=f"{_WHY}; tests/rdma runs this in a guest that has some")

VERBS = ["--transport", "verbs", *(["--device", "rxe{number}"] if {"rxe0", "rxe1"} <= set(RDMA_DEVICES) else [])]
"""Options of `Services` under which nodes read by verbs, each on a device of its own in a guest."""
