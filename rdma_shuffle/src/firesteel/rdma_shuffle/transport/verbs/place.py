"""Which port and address of which device: chosen from sysfs, before anything is opened.

On Ethernet the address is a RoCE v2 one, of IPv4 if there is any: it is routed, and both ends of a cluster have it. RoCE v1
and link-local addresses come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.devices import INFINIBAND
from firesteel.rdma_shuffle.transport.verbs.absent import VerbsAbsent, Why

_NET = Path("/sys/class/net")
_V4 = bytes(10) + b"\xff\xff"
_LINK_LOCAL = b"\xfe\x80"
_UNROUTED = 2
_IWARP = "iWARP"


@dataclass(frozen=True, slots=True)
class Place:
    """A port, and the address of its that is used."""

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


def choose(device: str | None = None, gid_index: int | None = None, root: Path = INFINIBAND) -> Place:
    """The first port that is up and has an address, in the order of names.

    Parameters
    ----------
    device, gid_index
        Only this one.

    Raises
    ------
    VerbsAbsent
        NO_DEVICE or NO_PORT.
    """
    names = sorted(each.name for each in root.iterdir()) if root.is_dir() else []
    if not names or (device and device not in names):
        found = f"there is no RDMA device {device}" if device else "there is no RDMA device"
        raise VerbsAbsent(
            Why.NO_DEVICE,
            f"{found} in {root}",
            f"there are: {', '.join(names)}" if names else "see firesteel doctor --rdma",
        )
    seen: list[str] = []
    for name in [device] if device else names:
        for port in sorted((root / name / "ports").iterdir()):
            place = _place(root / name, port, gid_index, seen)
            if place:
                return place
    raise VerbsAbsent(Why.NO_PORT, "; ".join(seen), "bring the port's network interface up, and give it an IP address")


def _place(device: Path, port: Path, wanted: int | None, seen: list[str]) -> Place | None:
    name = f"port {port.name} of {device.name}"
    if _text(device / "node_type").endswith("RNIC"):
        seen.append(f"{name} speaks {_IWARP}, which is not supported")
        return None
    state = _text(port / "state").split(":")[-1].strip()
    if state != "ACTIVE":
        seen.append(f"{name} is {state or 'unknown'}")
        return None
    ethernet = _text(port / "link_layer") == "Ethernet"
    gids = {index: gid for index, gid in gids_of(port).items() if wanted is None or index == wanted}
    if not gids:
        seen.append(f"{name} has no address" + ("" if wanted is None else f" at index {wanted}"))
        return None
    best = min(gids, key=lambda index: (_rank(port, index, gids[index]) if ethernet else 0, index))
    return Place(device.name, int(port.name), best, gids[best], ethernet, _rank(port, best, gids[best]) < _UNROUTED)


def _rank(port: Path, index: int, gid: bytes) -> int:
    routed = "v2" in _text(port / "gid_attrs" / "types" / str(index))
    if routed and gid.startswith(_V4):
        return 0
    if routed and not gid.startswith(_LINK_LOCAL):
        return 1
    return _UNROUTED if routed else _UNROUTED + 1


def gids_of(port: Path) -> dict[int, bytes]:
    """The addresses of a port that are set, by index."""
    found: dict[int, bytes] = {}
    for entry in (port / "gids").iterdir():
        gid = bytes.fromhex(_text(entry).replace(":", "") or "00")
        if any(gid[8:]):  # an empty entry may carry the subnet's prefix
            found[int(entry.name)] = gid
    return found


def net_device(port: Path) -> NetDevice | None:
    """The interface below a port; None on InfiniBand."""
    name = _text(port / "gid_attrs" / "ndevs" / "0")
    mtu = _text(_NET / name / "mtu") if name else ""
    return NetDevice(name, int(mtu)) if mtu.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # the kernel answers EINVAL for entries of the table that are empty
        return ""
