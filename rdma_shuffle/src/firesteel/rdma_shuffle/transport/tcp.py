"""The TCP transport: a few connections per peer, opened on demand. A request uses the least busy one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from firesteel.rdma_shuffle.transport.base import Notice, Store
from firesteel.rdma_shuffle.transport.peer_connection import Channels, PeerConnection
from firesteel.rdma_shuffle.transport.tcp_link import TcpLink
from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.frame_stream import FrameStream


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """Limits of the TCP transport.

    Parameters
    ----------
    links_per_peer, links
        Connections to one peer and to all peers. Above `links` the least recently used idle one is closed.
    accepted
        Connections from peers. Further ones are closed at once.
    reads, bytes
        Credits of each accepted connection.
    connect_s, stall_s
        Seconds to connect, and seconds without a byte after which a peer that owes an answer is closed.
    """

    links_per_peer: int = 2
    links: int = 1024
    accepted: int = 2048
    reads: int = 64
    bytes: int = 64 << 20
    connect_s: float = 5.0
    stall_s: float = 15.0


class TcpTransport:
    """A `Transport` over TCP.

    Parameters
    ----------
    resolve
        Returns for an owner its node name and the address (host, port) of its service.
    """

    name = "tcp"

    def __init__(
        self,
        store: Store,
        cluster: bytes,
        names: tuple[str, ...],
        resolve: Callable[[str], tuple[str, tuple[str, int]]],
        limits: TcpLimits,
    ) -> None:
        self._store, self._cluster, self._names, self._resolve, self.limits = store, cluster, names, resolve, limits
        self._links: dict[str, list[TcpLink]] = {}
        self._dialling: dict[str, asyncio.Lock] = {}
        self._accepted: set[PeerConnection] = set()
        self._server: asyncio.Server | None = None
        self.refused = 0
        self.channels: Channels | None = None

    async def listen(self, host: str, port: int) -> int:
        """Start to accept peers. Returns the bound port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port, backlog=256)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def _accept(self) -> FrameStream:
        connection = PeerConnection(
            self._store,
            self._cluster,
            self._names,
            (self.limits.reads, self.limits.bytes),
            self._accepted.discard,
            self.channels,
        )
        stream = _Accepted(connection, full=len(self._accepted) >= self.limits.accepted)
        if stream.full:
            self.refused += 1
        else:
            self._accepted.add(connection)
        return stream

    # -- Transport -----------------------------------------------------------------------------------------------

    async def locate(self, owner: str, application: str, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        link = await self.link(owner)
        return await link.locate(application, self._store.secret(application), ranges)

    async def read(self, owner: str, application: str, pieces: Sequence[Piece], into: memoryview) -> None:
        link = await self.link(owner)
        await link.read(application, self._store.secret(application), pieces, into)

    async def notify(self, owner: str, application: str, notice: Notice) -> None:
        link = await self.link(owner)
        await link.notify(application, self._store.secret(application), notice)

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for link in [link for links in self._links.values() for link in links]:
            link.close()
        self._links.clear()
        for connection in list(self._accepted):
            connection.stream.abort()
        if self._server:
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- links ---------------------------------------------------------------------------------------------------

    async def link(self, owner: str) -> TcpLink:
        """Return a connection to the owner: an idle one, a new one, or the least busy one."""
        async with self._dialling.setdefault(owner, asyncio.Lock()):
            links = self._links[owner] = [link for link in self._links.pop(owner, []) if link.alive]  # newest last
            idle = [link for link in links if link.idle]
            if idle or len(links) >= self.limits.links_per_peer:
                return min(idle or links, key=lambda link: link.busy_bytes)
            if links and all(link.busy_bytes == 0 for link in links):
                return links[0]  # busy with small requests only
            self._evict_idle()
            try:
                link = await self._dial(owner)
            except ShuffleFault:
                if links:
                    return links[0]
                self._links.pop(owner, None)
                self._dialling.pop(owner, None)
                raise
            self._links.setdefault(owner, []).append(link)
            return link

    async def _dial(self, owner: str) -> TcpLink:
        node, address = self._resolve(owner)
        try:
            async with asyncio.timeout(self.limits.connect_s):
                return await TcpLink.open(owner, address, self._cluster, self._names[0], node, self.limits.stall_s)
        except TimeoutError:
            raise ShuffleFault(
                Reason.UNREACHABLE, f"the service of {owner} did not answer within {self.limits.connect_s:g} s"
            ) from None

    def _evict_idle(self) -> None:
        if self.link_count < self.limits.links:
            return
        for owner, links in list(self._links.items()):
            for link in [idle for idle in links if idle.idle]:
                link.close()
                links.remove(link)
                if not links:
                    del self._links[owner]
                return
        raise ShuffleFault(Reason.NO_SPACE, f"all {self.limits.links} connections to peers are busy")

    @property
    def link_count(self) -> int:
        return sum(map(len, self._links.values()))

    @property
    def accepted_count(self) -> int:
        return len(self._accepted)


class _Accepted(FrameStream):
    """A connection of a peer. Above the limit it is closed before a byte is read."""

    def __init__(self, connection: PeerConnection, *, full: bool) -> None:
        super().__init__(connection)
        self.full = full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.full:
            self.abort()
