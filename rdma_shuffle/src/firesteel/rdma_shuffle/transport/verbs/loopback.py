"""Measures loopback reads: bare RDMA READs, the verbs transport, and TCP. For the doctor, not for benchmarks."""

from __future__ import annotations

import asyncio
import mmap
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.transport.base import Notice, Transport
from firesteel.rdma_shuffle.transport.tcp import TcpLimits, TcpTransport
from firesteel.rdma_shuffle.transport.verbs.device import Device
from firesteel.rdma_shuffle.transport.verbs.domain import Domain
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.queue_pair import QueuePair
from firesteel.rdma_shuffle.transport.verbs.transport import VerbsTransport
from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Piece, Range, Table
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

SIZE = 16 << 20
CHUNK = 1 << 20
_DEPTH = 4
_APP = "loopback"
_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Speeds:
    """Bytes per second. With `fallbacks` (reads that used TCP) the figure of the transport is meaningless."""

    bare: float
    transport: float
    tcp: float
    fallbacks: dict[str, int]


class _OneFile:
    """A `Store` with one map output and a slab."""

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self._path, self._view, self._secret = str(path), memoryview(memory), secrets.token_bytes(32)

    def secret(self, application: str) -> bytes:
        del application
        return self._secret

    def locate(self, application: str, block_range: Range) -> Found | Missing:
        del application, block_range
        return Found(Table.of([(SIZE, 0)]))

    def piece(self, application: str, piece: Piece) -> FileExtent | None:
        del application
        return FileExtent(self._path, piece.skip, piece.length)

    def notice(self, application: str, notice: Notice) -> None:
        raise ShuffleFault(Reason.UNKNOWN_APPLICATION, f"{application} {notice}")

    def slab_view(self, application: str) -> memoryview | None:
        del application
        return self._view


async def measure(limits: VerbsLimits) -> Speeds:
    """Read 16 MiB repeatedly for half a second in each of the three ways, on the device of the limits.

    Raises
    ------
    VerbsUnavailable
        There is no usable device.
    TcpFallback
        The device cannot read from itself.
    """
    memory = mmap.mmap(-1, SIZE)
    bare = await _bare(Device.open(limits.device, limits.gid_index), memory)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data")
        await asyncio.to_thread(path.write_bytes, secrets.token_bytes(SIZE))
        store, cluster = _OneFile(path, memory), secrets.token_bytes(32)
        port = 0
        owner = TcpTransport(store, cluster, ("owner",), lambda name: (name, ("127.0.0.1", port)), TcpLimits())
        reader = TcpTransport(store, cluster, ("reader",), lambda name: (name, ("127.0.0.1", port)), TcpLimits())
        transports: list[Transport] = [owner, reader]
        try:
            owning = VerbsTransport.open(owner, store, limits)
            transports.append(owning)
            port = await owner.listen("127.0.0.1", 0)
            reading = VerbsTransport.open(reader, store, limits)
            transports.append(reading)
            pieces, view = [Piece(Range(0, 0, 0, 1), 0, SIZE)], memoryview(memory)
            verbs = await _speed(lambda: reading.read("owner", _APP, pieces, view))
            tcp = await _speed(lambda: reader.read("owner", _APP, pieces, view))
            return Speeds(bare, verbs, tcp, dict(reading.fallbacks))
        finally:
            for transport in reversed(transports):
                await transport.close()


async def _bare(device: Device, memory: mmap.mmap) -> float:
    """Measure READs of 1 MiB, four at a time, between two queue pairs: the upper bound of the transport."""
    domain = Domain(device)
    reads, serves = QueuePair(device, domain, serves=False), QueuePair(device, domain, serves=True)
    try:
        slab, staging = domain.registered_slab(memoryview(memory)), domain.stage(SIZE)
        serves.connect(reads.end)
        reads.connect(serves.end)

        async def some(offsets: Sequence[int]) -> None:
            for at in offsets:
                await reads.read(slab.base + at, slab.lkey, CHUNK, staging.base + at, staging.rkey)

        async def whole() -> None:
            offsets = range(0, SIZE, CHUNK)
            async with asyncio.TaskGroup() as group:
                for first in range(_DEPTH):
                    group.create_task(some(offsets[first::_DEPTH]))

        return await _speed(whole)
    finally:
        reads.destroy()
        serves.destroy()
        domain.close()
        device.close()


async def _speed(work: Callable[[], Awaitable[None]]) -> float:
    await work()  # connections, first pages
    start, done = time.monotonic(), 0
    while (passed := time.monotonic() - start) < _SECONDS or not done:
        await work()
        done += 1
    del passed
    return done * SIZE / (time.monotonic() - start)
