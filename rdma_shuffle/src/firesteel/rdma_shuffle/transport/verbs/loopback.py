"""How fast this machine reads from itself: by bare RDMA READs, by this transport, and by TCP. For the doctor, not for claims."""

from __future__ import annotations

import asyncio
import mmap
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.blocks import FileExtent, Found, Missing, Piece, Range, Table
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.transport.base import Notice, Transport
from firesteel.rdma_shuffle.transport.tcp import TcpLimits, TcpTransport
from firesteel.rdma_shuffle.transport.verbs.device import Device
from firesteel.rdma_shuffle.transport.verbs.domain import Domain
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.pair import Pair
from firesteel.rdma_shuffle.transport.verbs.transport import VerbsTransport

SIZE = 16 << 20
CHUNK = 1 << 20
_DEPTH = 4
_APP = "loopback"
_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Speeds:
    """Bytes a second. `falls`: reads of the transport that went by TCP; its figure is void if there are any."""

    bare: float
    transport: float
    tcp: float
    falls: dict[str, int]


class _OneFile:
    """A `Store` with one map output, and memory for it to land in."""

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self._path, self._view, self._secret = str(path), memoryview(memory), secrets.token_bytes(32)

    def secret(self, application: str) -> bytes:
        del application
        return self._secret

    def locate(self, application: str, asked: Range) -> Found | Missing:
        del application, asked
        return Found(Table.of([(SIZE, 0)]))

    def piece(self, application: str, piece: Piece) -> FileExtent | None:
        del application
        return FileExtent(self._path, piece.skip, piece.length)

    def notice(self, application: str, notice: Notice) -> None:
        raise ShuffleFault(Reason.UNKNOWN_APPLICATION, f"{application} {notice}")

    def landing(self, application: str) -> memoryview | None:
        del application
        return self._view


async def measure(limits: VerbsLimits) -> Speeds:
    """Read 16 MiB as often as half a second allows, by each of the three, on the device that the limits choose.

    Raises
    ------
    VerbsAbsent
        There is none.
    FallDown
        The device does not read from itself.
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
            return Speeds(bare, verbs, tcp, dict(reading.falls))
        finally:
            for each in reversed(transports):
                await each.close()


async def _bare(device: Device, memory: mmap.mmap) -> float:
    """READs of 1 MiB, four at a time, between two queue pairs: what nothing above can be faster than."""
    domain = Domain(device)
    reads, serves = Pair(device, domain, serves=False), Pair(device, domain, serves=True)
    try:
        landing, staging = domain.landing(memoryview(memory)), domain.stage(SIZE)
        serves.connect(reads.end)
        reads.connect(serves.end)

        async def some(offsets: Sequence[int]) -> None:
            for at in offsets:
                await reads.read(landing.base + at, landing.lkey, CHUNK, staging.base + at, staging.rkey)

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
