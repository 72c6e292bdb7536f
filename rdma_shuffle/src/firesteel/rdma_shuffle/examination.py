"""`firesteel-shuffled --doctor`: what this machine has for RDMA, what it lacks, and how fast it reads from itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from firesteel.rdma_shuffle.doctor import INFINIBAND, probe
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown, VerbsAbsent, Why
from firesteel.rdma_shuffle.transport.verbs.library import load
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.place import choose, gids_of, net_device

_HUGE = Path("/sys/kernel/mm/hugepages")
_SHMEM_HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_JUMBO = 4200
"""Ethernet MTU from which packets of 4096 bytes fit, the largest of verbs."""
_SLOW = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """`lack` sends blocks by TCP; `note` costs speed or may do so later. `advice` says what to change."""

    subject: str
    state: Literal["ok", "note", "lack"]
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the service would use: memory of one application, and of all."""

    slab_bytes: int
    pinned_bytes: int
    shm: Path
    verbs: VerbsLimits


def examine(wanted: Wanted, root: Path = INFINIBAND) -> list[Finding]:
    """All findings, in the order in which a service would stumble over them."""
    findings = [_library(), *_ports(root), _place(wanted.verbs, root), *_memory(wanted), _huge_pages()]
    if not any(each.state == "lack" for each in findings if each.subject in {"pyverbs", "address"}):
        findings.append(_loopback(wanted.verbs))
    return findings


def _library() -> Finding:
    try:
        library = load()
    except VerbsAbsent as absent:
        return Finding("pyverbs", "lack", absent.what, absent.hint)
    return Finding("pyverbs", "ok", str(Path(library.device.__file__).parent))


def _ports(root: Path) -> Iterator[Finding]:
    ports = probe(root).ports
    if not ports:
        yield Finding("device", "lack", f"no RDMA device in {root}", "Blocks come by TCP; on Soft-RoCE: rdma link add")
    for port in ports:
        folder = root / port.device / "ports" / str(port.port)
        net = net_device(folder)
        mtu = f", MTU {net.mtu} of {net.name}" if net else ""
        told = f"{port.state} {port.rate} ({port.link_layer}{mtu}), {len(gids_of(folder))} addresses"
        name = f"{port.device}/{port.port}"
        if port.state != "ACTIVE":
            yield Finding(name, "note", told, "Bring the link up, and its network interface.")
        elif net and net.mtu < _JUMBO:
            yield Finding(name, "note", told, f"Set an MTU of {_JUMBO} or more: ip link set {net.name} mtu 9000")
        else:
            yield Finding(name, "ok", told)


def _place(limits: VerbsLimits, root: Path) -> Finding:
    try:
        place = choose(limits.device, limits.gid_index, root)
    except VerbsAbsent as absent:
        return Finding("address", "lack", absent.what, absent.hint)
    found = f"{place.device}/{place.port}, GID {place.gid_index}: {place.gid.hex(':', 2)}"
    if place.ethernet and not place.routed:
        return Finding("address", "note", found, "This is no RoCE v2 address: give the interface an IP address.")
    return Finding("address", "ok", found)


def _memory(wanted: Wanted) -> Iterator[Finding]:
    state = probe(shm=wanted.shm)
    one = wanted.slab_bytes + wanted.verbs.stage_bytes
    if state.memlock_bytes is None:
        yield Finding("memlock", "ok", "unlimited")
    else:
        found = f"{_mib(state.memlock_bytes)} may be locked; an application takes {_mib(one)}, all {_mib(wanted.pinned_bytes)}"
        advice = "Set LimitMEMLOCK=infinity in the service's unit, or raise `ulimit -l`."
        enough = state.memlock_bytes >= wanted.pinned_bytes
        yield Finding("memlock", "ok" if enough else "note", found, "" if enough else advice)
    found = f"{_mib(state.shm_bytes)} are free in {wanted.shm}; an application's slab takes {_mib(wanted.slab_bytes)}"
    enough = state.shm_bytes >= wanted.pinned_bytes
    advice = f"Give it {_mib(wanted.pinned_bytes)}: mount -o remount,size={wanted.pinned_bytes} {wanted.shm}"
    yield Finding("shared memory", "ok" if enough else "note", found, "" if enough else advice)


def _huge_pages() -> Finding:
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
        return Finding("huge pages", "note", found, advice if _SHMEM_HUGE.exists() else "")
    return Finding("huge pages", "ok", found)


def _loopback(limits: VerbsLimits) -> Finding:
    from firesteel.rdma_shuffle.transport.verbs.loopback import measure

    try:
        speeds = asyncio.run(measure(limits))
    except FallDown as down:
        advice = "Raise the memlock limit." if down.why is Why.NO_MEMORY else "Does ib_read_bw run on this port?"
        return Finding("loopback", "lack", down.detail, advice)
    except VerbsAbsent as absent:
        return Finding("loopback", "lack", absent.what, absent.hint)
    found = (
        f"READ {_mib(int(speeds.bare))}/s bare, {_mib(int(speeds.transport))}/s through the transport, "
        f"{_mib(int(speeds.tcp))}/s by TCP"
    )
    if speeds.falls:
        why = ", ".join(speeds.falls)
        return Finding("loopback", "lack", f"{found}; reads fell to TCP: {why}", "See the reason in the log.")
    if speeds.transport < _SLOW * speeds.bare:
        return Finding("loopback", "note", found, "Is the machine busy? The copy into the staging area takes a CPU.")
    return Finding("loopback", "ok", found)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def text(findings: list[Finding], *, as_json: bool) -> str:
    """For people, one finding a line and its advice below; or JSON."""
    if as_json:
        return json.dumps([asdict(each) for each in findings], indent=2) + "\n"
    lines = []
    for each in findings:
        lines.append(f"{each.state:5} {each.subject:14} {each.found}\n")
        if each.advice:
            lines.append(f"{'':20} -> {each.advice}\n")
    return "".join(lines)
