"""The checks of `firesteel doctor --rdma`: RDMA devices, memory and pages, and how fast this machine reads from itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from firesteel.conf.check import Check
from firesteel.rdma_shuffle.devices import INFINIBAND, SHM, probe
from firesteel.rdma_shuffle.settings import Limits
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown, VerbsAbsent, Why
from firesteel.rdma_shuffle.transport.verbs.library import load
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.place import choose, gids_of, net_device

_HUGE = Path("/sys/kernel/mm/hugepages")
_SHMEM_HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_JUMBO = 4200
"""Ethernet MTU from which packets of 4096 bytes fit, the largest of verbs."""
_SLOW = 0.5


def rdma_checks(limits: Limits | None = None, root: Path = INFINIBAND) -> list[Check]:
    """Return all checks, in the order in which a service needs what they check. Where one fails, blocks are sent by TCP."""
    verbs = VerbsLimits()
    checks = [_library(), *_ports(root), _place(verbs, root), *_memory(limits or Limits(), verbs), _huge_pages()]
    if not any(check.state == "fail" for check in checks if check.subject in {"pyverbs", "address"}):
        checks.append(_loopback(verbs))
    return checks


def _library() -> Check:
    try:
        library = load()
    except VerbsAbsent as absent:
        return Check("pyverbs", "fail", absent.what, absent.hint)
    return Check("pyverbs", "ok", str(Path(library.device.__file__).parent))


def _ports(root: Path) -> Iterator[Check]:
    ports = probe(root).ports
    if not ports:
        yield Check("device", "fail", f"no RDMA device in {root}", "Blocks come by TCP; on Soft-RoCE: rdma link add")
    for port in ports:
        folder = root / port.device / "ports" / str(port.port)
        net = net_device(folder)
        mtu = f", MTU {net.mtu} of {net.name}" if net else ""
        told = f"{port.state} {port.rate} ({port.link_layer}{mtu}), {len(gids_of(folder))} addresses"
        name = f"{port.device}/{port.port}"
        if port.state != "ACTIVE":
            yield Check(name, "note", told, "Bring the link up, and its network interface.")
        elif net and net.mtu < _JUMBO:
            yield Check(name, "note", told, f"Set an MTU of {_JUMBO} or more: ip link set {net.name} mtu 9000")
        else:
            yield Check(name, "ok", told)


def _place(limits: VerbsLimits, root: Path) -> Check:
    try:
        place = choose(limits.device, limits.gid_index, root)
    except VerbsAbsent as absent:
        return Check("address", "fail", absent.what, absent.hint)
    found = f"{place.device}/{place.port}, GID {place.gid_index}: {place.gid.hex(':', 2)}"
    if place.ethernet and not place.routed:
        return Check("address", "note", found, "This is no RoCE v2 address: give the interface an IP address.")
    return Check("address", "ok", found)


def _memory(wanted: Limits, verbs: VerbsLimits) -> Iterator[Check]:
    state = probe()
    one = wanted.slab_bytes + verbs.stage_bytes
    if state.memlock_bytes is None:
        yield Check("memlock", "ok", "unlimited")
    else:
        found = f"{_mib(state.memlock_bytes)} may be locked; an application takes {_mib(one)}, all {_mib(wanted.pinned_bytes)}"
        advice = "Set LimitMEMLOCK=infinity in the service's unit, or raise `ulimit -l`."
        enough = state.memlock_bytes >= wanted.pinned_bytes
        yield Check("memlock", "ok" if enough else "note", found, "" if enough else advice)
    found = f"{_mib(state.shm_bytes)} are free in {SHM}; an application's slab takes {_mib(wanted.slab_bytes)}"
    enough = state.shm_bytes >= wanted.pinned_bytes
    advice = f"Give it {_mib(wanted.pinned_bytes)}: mount -o remount,size={wanted.pinned_bytes} {SHM}"
    yield Check("shared memory", "ok" if enough else "note", found, "" if enough else advice)


def _huge_pages() -> Check:
    reserved = {
        folder.name.removeprefix("hugepages-"): int((folder / "free_hugepages").read_text())
        for folder in (sorted(_HUGE.iterdir()) if _HUGE.is_dir() else [])
    }
    shmem = _SHMEM_HUGE.read_text() if _SHMEM_HUGE.exists() else "[never]"
    chosen = shmem.partition("[")[2].partition("]")[0]
    found = ", ".join(f"{count} free of {size}" for size, count in reserved.items()) or "none"
    found = f"{found}; for shared memory: {chosen}"
    if chosen in {"never", "deny"}:
        advice = f"Registered memory needs fewer translations with: echo advise > {_SHMEM_HUGE}"
        return Check("huge pages", "note", found, advice if _SHMEM_HUGE.exists() else "")
    return Check("huge pages", "ok", found)


def _loopback(limits: VerbsLimits) -> Check:
    from firesteel.rdma_shuffle.transport.verbs.loopback import measure

    try:
        speeds = asyncio.run(measure(limits))
    except FallDown as down:
        advice = "Raise the memlock limit." if down.why is Why.NO_MEMORY else "Does ib_read_bw run on this port?"
        return Check("loopback", "fail", down.detail, advice)
    except VerbsAbsent as absent:
        return Check("loopback", "fail", absent.what, absent.hint)
    found = (
        f"READ {_mib(int(speeds.bare))}/s bare, {_mib(int(speeds.transport))}/s through the transport, "
        f"{_mib(int(speeds.tcp))}/s by TCP"
    )
    if speeds.falls:
        why = ", ".join(speeds.falls)
        return Check("loopback", "fail", f"{found}; reads fell to TCP: {why}", "See the reason in the log.")
    if speeds.transport < _SLOW * speeds.bare:
        return Check("loopback", "note", found, "Is the machine busy? The copy into the staging area takes a CPU.")
    return Check("loopback", "ok", found)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
