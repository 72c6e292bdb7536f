"""The checks of `firesteel doctor --rdma`: the RDMA setup of this machine, and its speed in a loopback read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from firesteel.conf.check import Check
from firesteel.rdma_shuffle.settings import Limits
from firesteel.rdma_shuffle.transport.verbs.device_port import INFINIBAND, choose_port, gids_of, net_device
from firesteel.rdma_shuffle.transport.verbs.library import load
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.rdma_state import SHM, probe
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, TcpFallback, VerbsUnavailable

_HUGE = Path("/sys/kernel/mm/hugepages")
_SHMEM_HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_JUMBO = 4200
"""The smallest Ethernet MTU for packets of 4096 bytes, the largest MTU of verbs."""
_SLOW = 0.5


def rdma_checks(limits: Limits | None = None, root: Path = INFINIBAND) -> list[Check]:
    """Return all checks, in the order in which a service would fail. With `fail` blocks are sent by TCP.

    Parameters
    ----------
    limits
        The memory that the service may use; its default limits if not given.
    root
        `/sys/class/infiniband`.
    """
    verbs = VerbsLimits()
    checks = [_library(), *_ports(root), _address(verbs, root), *_memory(limits or Limits(), verbs), _huge_pages()]
    if not any(check.state == "fail" for check in checks if check.subject in {"pyverbs", "address"}):
        checks.append(_loopback(verbs))
    return checks


def _library() -> Check:
    try:
        library = load()
    except VerbsUnavailable as unavailable:
        return Check("pyverbs", "fail", unavailable.what, unavailable.hint)
    return Check("pyverbs", "ok", str(Path(library.device.__file__).parent))


def _ports(root: Path) -> Iterator[Check]:
    ports = probe(root).ports
    if not ports:
        yield Check(
            "device", "fail", f"no RDMA device in {root}", "Peers are read by TCP. For Soft-RoCE run: rdma link add"
        )
    for port in ports:
        folder = root / port.device / "ports" / str(port.port)
        net = net_device(folder)
        mtu = f", MTU {net.mtu} of {net.name}" if net else ""
        detail = f"{port.state} {port.rate} ({port.link_layer}{mtu}), {len(gids_of(folder))} addresses"
        name = f"{port.device}/{port.port}"
        if port.state != "ACTIVE":
            yield Check(name, "note", detail, "Bring up the link and its network interface.")
        elif net and net.mtu < _JUMBO:
            yield Check(name, "note", detail, f"Set an MTU of {_JUMBO} or more: ip link set {net.name} mtu 9000")
        else:
            yield Check(name, "ok", detail)


def _address(limits: VerbsLimits, root: Path) -> Check:
    try:
        device_port = choose_port(limits.device, limits.gid_index, root)
    except VerbsUnavailable as unavailable:
        return Check("address", "fail", unavailable.what, unavailable.hint)
    detail = f"{device_port.device}/{device_port.port}, GID {device_port.gid_index}: {device_port.gid.hex(':', 2)}"
    if device_port.ethernet and not device_port.routed:
        return Check("address", "note", detail, "This is not a RoCE v2 address. Give the interface an IP address.")
    return Check("address", "ok", detail)


def _memory(limits: Limits, verbs: VerbsLimits) -> Iterator[Check]:
    state = probe()
    one = limits.slab_bytes + verbs.stage_bytes
    if state.memlock_bytes is None:
        yield Check("memlock", "ok", "unlimited")
    else:
        detail = f"{_mib(state.memlock_bytes)} can be locked; one application needs {_mib(one)}, all {_mib(limits.pinned_bytes)}"
        hint = "Set LimitMEMLOCK=infinity in the service's unit, or raise `ulimit -l`."
        enough = state.memlock_bytes >= limits.pinned_bytes
        yield Check("memlock", "ok" if enough else "note", detail, "" if enough else hint)
    detail = f"{_mib(state.shm_bytes)} are free in {SHM}; the slab of one application needs {_mib(limits.slab_bytes)}"
    enough = state.shm_bytes >= limits.pinned_bytes
    hint = f"Enlarge it to {_mib(limits.pinned_bytes)}: mount -o remount,size={limits.pinned_bytes} {SHM}"
    yield Check("shared memory", "ok" if enough else "note", detail, "" if enough else hint)


def _huge_pages() -> Check:
    reserved = {
        folder.name.removeprefix("hugepages-"): int((folder / "free_hugepages").read_text())
        for folder in (sorted(_HUGE.iterdir()) if _HUGE.is_dir() else [])
    }
    shmem = _SHMEM_HUGE.read_text() if _SHMEM_HUGE.exists() else "[never]"
    chosen = shmem.partition("[")[2].partition("]")[0]
    detail = ", ".join(f"{count} free of {size}" for size, count in reserved.items()) or "none"
    detail = f"{detail}; for shared memory: {chosen}"
    if chosen in {"never", "deny"}:
        hint = f"Enable huge pages, so that registered memory needs fewer translations: echo advise > {_SHMEM_HUGE}"
        return Check("huge pages", "note", detail, hint if _SHMEM_HUGE.exists() else "")
    return Check("huge pages", "ok", detail)


def _loopback(limits: VerbsLimits) -> Check:
    from firesteel.rdma_shuffle.transport.verbs.loopback import measure

    try:
        speeds = asyncio.run(measure(limits))
    except TcpFallback as fallback:
        hint = (
            "Raise the memlock limit."
            if fallback.reason is FallbackReason.NO_MEMORY
            else "Check that ib_read_bw runs on this port."
        )
        return Check("loopback", "fail", fallback.detail, hint)
    except VerbsUnavailable as unavailable:
        return Check("loopback", "fail", unavailable.what, unavailable.hint)
    detail = (
        f"READ {_mib(int(speeds.bare))}/s on bare queue pairs, {_mib(int(speeds.transport))}/s through the transport, "
        f"{_mib(int(speeds.tcp))}/s by TCP"
    )
    if speeds.fallbacks:
        reasons = ", ".join(speeds.fallbacks)
        return Check("loopback", "fail", f"{detail}; reads fell back to TCP: {reasons}", "See the reason in the log.")
    if speeds.transport < _SLOW * speeds.bare:
        return Check(
            "loopback", "note", detail, "Check whether the machine is busy: the copy into the staging area needs a CPU."
        )
    return Check("loopback", "ok", detail)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
