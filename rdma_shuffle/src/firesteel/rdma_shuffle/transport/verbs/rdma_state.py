"""The RDMA state of this machine: devices and ports from sysfs, the memlock limit and /dev/shm."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.transport.verbs.device_port import INFINIBAND, gids_of, read_text, state_of

SHM = Path("/dev/shm")  # noqa: S108 - the folder itself


@dataclass(frozen=True, slots=True)
class Port:
    """One port of an RDMA device in sysfs. `gids` is the number of addresses in its GID table."""

    device: str
    port: int
    state: str
    rate: str
    link_layer: str
    gids: int


@dataclass(frozen=True, slots=True)
class RdmaState:
    """Ports and memory limits. `memlock_bytes` is None if unlimited."""

    ports: tuple[Port, ...]
    memlock_bytes: int | None
    shm_bytes: int

    @property
    def usable(self) -> bool:
        """Whether at least one port is active and has an address."""
        return any(port.state == "ACTIVE" and port.gids for port in self.ports)


def probe(root: Path = INFINIBAND, shm: Path = SHM) -> RdmaState:
    """Read the state of this machine.

    Parameters
    ----------
    root
        `/sys/class/infiniband`, which does not exist on machines without RDMA.
    shm
        The folder of slabs.
    """
    ports = tuple(
        _port(device.name, port)
        for device in (sorted(root.iterdir()) if root.is_dir() else [])
        for port in sorted((device / "ports").iterdir())
    )
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    space = os.statvfs(shm)
    return RdmaState(ports, None if soft == resource.RLIM_INFINITY else soft, space.f_bavail * space.f_frsize)


def _port(device: str, folder: Path) -> Port:
    rate, link_layer = read_text(folder / "rate"), read_text(folder / "link_layer")
    return Port(device, int(folder.name), state_of(folder), rate, link_layer, len(gids_of(folder)))
