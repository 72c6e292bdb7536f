"""What this machine has for RDMA: devices and ports from sysfs, locked memory, /dev/shm. Reads only."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

INFINIBAND = Path("/sys/class/infiniband")
SHM = Path("/dev/shm")  # noqa: S108 - the place itself


@dataclass(frozen=True, slots=True)
class Port:
    """One port of an RDMA device, as sysfs tells it. `gids` counts the entries of its GID table that are set."""

    device: str
    port: int
    state: str
    rate: str
    link_layer: str
    gids: int


@dataclass(frozen=True, slots=True)
class RdmaState:
    """What a shuffle service would find. `memlock_bytes` is None when unlimited."""

    ports: tuple[Port, ...]
    memlock_bytes: int | None
    shm_bytes: int

    @property
    def usable(self) -> bool:
        """At least one port is up and has an address."""
        return any(port.state == "ACTIVE" and port.gids for port in self.ports)


def probe(root: Path = INFINIBAND, shm: Path = SHM) -> RdmaState:
    """Look at the machine.

    Parameters
    ----------
    root
        `/sys/class/infiniband`, absent on machines without RDMA.
    shm
        Where slabs would live.
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
    gids = 0
    for gid in (folder / "gids").iterdir():
        try:
            gids += gid.read_text().strip().strip("0:") != ""
        except OSError:  # the kernel answers EINVAL for entries of the table that are empty
            continue
    state = _text(folder / "state").split(":")[-1].strip()
    return Port(device, int(folder.name), state, _text(folder / "rate"), _text(folder / "link_layer"), gids)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
