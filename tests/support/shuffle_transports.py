"""Two transports in one process: `near` requests and `far` owns, with real sockets, files and devices."""

from __future__ import annotations

import asyncio
import mmap
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.memory.allocator import Allocator
from firesteel.rdma_shuffle.storage.catalogue import Catalogue
from firesteel.rdma_shuffle.transport.base import Notice, Transport
from firesteel.rdma_shuffle.transport.tcp import TcpLimits, TcpTransport
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.transport import VerbsTransport
from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from support.rdma import RDMA_DEVICES
from support.shuffle_node import free_port, table_of

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
MIB = 1 << 20


@dataclass
class Shelf:
    """A `Store` with real catalogues."""

    folder: Path
    secrets: dict[str, bytes] = field(default_factory=dict)
    catalogues: dict[str, Catalogue] = field(default_factory=dict)
    notices: list[tuple[str, Notice]] = field(default_factory=list)
    memory: mmap.mmap | None = None

    def add(self, application: str, key: bytes) -> None:
        self.secrets[application] = key
        self.catalogues[application] = Catalogue((self.folder,), application)

    def put(self, application: str, shuffle: int, map_id: int, blocks: list[bytes]) -> None:
        data = self.folder / application / "data"
        data.write_bytes(b"".join(blocks))
        self.catalogues[application].register(shuffle, map_id, str(data), "", table_of(blocks))

    def _known(self, application: str) -> Catalogue:
        if application not in self.catalogues:
            raise ShuffleFault(Reason.UNKNOWN_APPLICATION, application)
        return self.catalogues[application]

    def secret(self, application: str) -> bytes:
        self._known(application)
        return self.secrets[application]

    def locate(self, application: str, asked: Range) -> Found | Missing:
        return self._known(application).locate(asked)

    def piece(self, application: str, piece: Piece) -> FileExtent | None:
        return self._known(application).piece(piece)

    def notice(self, application: str, notice: Notice) -> None:
        self._known(application)
        self.notices.append((application, notice))

    def slab_view(self, application: str) -> memoryview | None:
        self._known(application)
        return memoryview(self.memory) if self.memory else None


@dataclass
class Two:
    """`near` requests and `far` owns; `fall` stops `far`."""

    near: Transport
    near_shelf: Shelf
    far_shelf: Shelf
    fall: Callable[[], Awaitable[None]]
    rise: Callable[[], Awaitable[None]]
    misname: Callable[[], None]
    buffer: Callable[[int], bytearray | memoryview] = bytearray
    """Where reads go: memory of the kind that the transport is made for."""
    far: Callable[[], Transport | None] = lambda: None
    pause_s: float = 0.0
    """Of loops that wait for memory to change: a guest has one CPU, and a busy one starves its network."""
    shorter: Reason = Reason.UNREACHABLE
    """What a file that became shorter is: TCP has announced its bytes already, and can only end the connection."""


async def two_by_tcp(
    folder: Path,
    *,
    far_cluster: bytes = b"c" * 32,
    stall_s: float = 20.0,
    serve: Callable[[TcpTransport, Shelf], None] = lambda _transport, _shelf: None,
) -> Two:
    shelves = [Shelf(folder / name) for name in ("near", "far")]
    port, names = free_port(), ["far"]
    limits = TcpLimits(connect_s=5, stall_s=stall_s, bytes=8 * MIB)
    near = TcpTransport(shelves[0], b"c" * 32, ("near",), lambda _owner: (names[-1], ("127.0.0.1", port)), limits)
    far: list[TcpTransport] = []

    async def rise() -> None:
        far.append(TcpTransport(shelves[1], far_cluster, ("far", "alias"), lambda _owner: ("", ("", 0)), limits))
        serve(far[-1], shelves[1])
        await far[-1].listen("127.0.0.1", port)

    async def fall() -> None:
        await far[-1].close()

    await rise()
    return Two(near, shelves[0], shelves[1], fall, rise, lambda: names.append("somebody-else"))


@cache
def _memory() -> mmap.mmap:
    """The memory that all tests register in turn: a guest has little."""
    return mmap.mmap(-1, 128 * MIB)


async def two_by_verbs(folder: Path, *, limits: VerbsLimits | None = None, **options: object) -> Two:
    """On two devices if there are two. Without limits, nothing may fall down to TCP."""
    devices = (RDMA_DEVICES * 2)[:2]
    far: list[VerbsTransport] = []

    def serve(tcp: TcpTransport, shelf: Shelf) -> None:
        far.append(VerbsTransport.open(tcp, shelf, replace(limits or VerbsLimits(), device=devices[1])))

    two = await two_by_tcp(folder, serve=serve, **options)
    memory = two.near_shelf.memory = _memory()
    extents = Allocator(len(memory))

    def buffer(size: int) -> memoryview:
        offset = extents.take(size or 1)
        assert offset is not None
        found = memoryview(memory)[offset : offset + size]
        found[:4096] = bytes(min(size, 4096))  # what `landed` looks at
        return found

    near = VerbsTransport.open(two.near, two.near_shelf, replace(limits or VerbsLimits(), device=devices[0]))
    fall = two.fall

    async def fall_and_say() -> None:
        await far[-1].close()
        await fall()
        assert limits or near.fallbacks == {}

    two.near, two.fall, two.buffer, two.pause_s, two.shorter = near, fall_and_say, buffer, 0.001, Reason.CORRUPT
    two.far = lambda: far[-1]
    return two


def blocks_of(*sizes: int) -> list[bytes]:
    return [secrets.token_bytes(size) for size in sizes]


def pieces_of(blocks: list[bytes], shuffle: int = 0, map_id: int = 1) -> list[Piece]:
    return [Piece(Range(shuffle, map_id, at, at + 1), 0, len(each)) for at, each in enumerate(blocks)]


async def read(two: Two, pieces: list[Piece], application: str = "app") -> bytes:
    into = two.buffer(sum(piece.length for piece in pieces))
    await two.near.read("far", application, pieces, memoryview(into))
    return bytes(into)


async def refused(awaitable: Awaitable[object]) -> Reason:
    with pytest.raises(ShuffleFault) as error:
        await awaitable
    return error.value.reason


async def landed(two: Two, view: memoryview) -> None:
    """Wait until the first bytes of a read are there."""
    async with asyncio.timeout(20):
        while not any(view[:4096]):  # noqa: ASYNC110 - memory has no event
            await asyncio.sleep(two.pause_s)
