"""Chooses the port and address of an RDMA device from sysfs, before anything is opened.

On Ethernet a RoCE v2 address of IPv4 is preferred: it is routed, and all nodes of a cluster have one. RoCE v1 and link-local
addresses are the last choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, VerbsUnavailable

INFINIBAND = Path("/sys/class/infiniband")
_NET = Path("/sys/class/net")
_V4 = bytes(10) + b"\xff\xff"
_LINK_LOCAL = b"\xfe\x80"
_UNROUTED = 2


@dataclass(frozen=True, slots=True)
class DevicePort:
    """A port of a device, and the address (GID) to use."""

    device: str
    port: int
    gid_index: int
    gid: bytes
    ethernet: bool
    routed: bool


@dataclass(frozen=True, slots=True)
class NetDevice:
    """The network interface of an Ethernet port."""

    name: str
    mtu: int


def choose_port(device: str | None = None, gid_index: int | None = None, root: Path = INFINIBAND) -> DevicePort:
    """Return the first active port with an address, in the order of names.

    Parameters
    ----------
    device, gid_index
        Consider only these.

    Raises
    ------
    VerbsUnavailable
        NO_DEVICE or NO_PORT.
    """
    names = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    if not names or (device and device not in names):
        what = f"there is no RDMA device {device}" if device else "there is no RDMA device"
        raise VerbsUnavailable(
            FallbackReason.NO_DEVICE,
            f"{what} in {root}.",
            f"Available: {', '.join(names)}." if names else "Peers are read by TCP. For Soft-RoCE run: rdma link add",
        )
    rejected: list[str] = []
    for name in [device] if device else names:
        for port in sorted((root / name / "ports").iterdir()):
            device_port = _usable_port(root / name, port, gid_index, rejected)
            if device_port:
                return device_port
    raise VerbsUnavailable(
        FallbackReason.NO_PORT,
        "; ".join(rejected) + ".",
        "Bring up the network interface of the port and give it an IP address.",
    )


def _usable_port(device: Path, port: Path, wanted: int | None, rejected: list[str]) -> DevicePort | None:
    name = f"port {port.name} of {device.name}"
    if read_text(device / "node_type").endswith("RNIC"):
        rejected.append(f"{name} is an iWARP port, which is not supported")
        return None
    state = state_of(port)
    if state != "ACTIVE":
        rejected.append(f"{name} is {state or 'unknown'}")
        return None
    ethernet = read_text(port / "link_layer") == "Ethernet"
    gids = {index: gid for index, gid in gids_of(port).items() if wanted is None or index == wanted}
    if not gids:
        rejected.append(f"{name} has no address" + ("" if wanted is None else f" at index {wanted}"))
        return None
    best = min(gids, key=lambda index: (_rank(port, index, gids[index]) if ethernet else 0, index))
    return DevicePort(
        device.name, int(port.name), best, gids[best], ethernet, _rank(port, best, gids[best]) < _UNROUTED
    )


def _rank(port: Path, index: int, gid: bytes) -> int:
    routed = "v2" in read_text(port / "gid_attrs" / "types" / str(index))
    if routed and gid.startswith(_V4):
        return 0
    if routed and not gid.startswith(_LINK_LOCAL):
        return 1
    return _UNROUTED if routed else _UNROUTED + 1


def state_of(port: Path) -> str:
    """Return the state of a port, e.g. ACTIVE."""
    return read_text(port / "state").split(":")[-1].strip()


def gids_of(port: Path) -> dict[int, bytes]:
    """Return the addresses of a port by index, without empty entries."""
    gids: dict[int, bytes] = {}
    for entry in (port / "gids").iterdir():
        gid = bytes.fromhex(read_text(entry).replace(":", "") or "00")
        if any(gid[8:]):  # an empty entry may contain the prefix of the subnet
            gids[int(entry.name)] = gid
    return gids


def net_device(port: Path) -> NetDevice | None:
    """Return the network interface of a port, or None on InfiniBand."""
    name = read_text(port / "gid_attrs" / "ndevs" / "0")
    mtu = read_text(_NET / name / "mtu") if name else ""
    return NetDevice(name, int(mtu)) if mtu.isdigit() else None


def read_text(path: Path) -> str:
    """Return the text of a sysfs file, or an empty string if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:  # the kernel returns EINVAL for empty entries of the GID table
        return ""
