"""Blocks over TCP between services: a few connections a peer, made when first needed, the least busy one taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from firesteel.rdma_shuffle.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.stream import FrameStream
from firesteel.rdma_shuffle.transport.base import Notice, Store
from firesteel.rdma_shuffle.transport.tcp_link import TcpLink
from firesteel.rdma_shuffle.transport.tcp_server import Lanes, PeerConversation


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What the transport may use.

    Parameters
    ----------
    links_per_peer, links
        Connections that we dial; over `links`, the idle one that was used longest ago is closed.
    accepted
        Connections of peers; further ones are closed at once.
    reads, bytes
        Credits that each accepted connection gets.
    connect_s, stall_s
        How long dialling may take, and how long a peer that owes an answer may send nothing.
    """

    links_per_peer: int = 2
    links: int = 1024
    accepted: int = 2048
    reads: int = 64
    bytes: int = 64 << 20
    connect_s: float = 5.0
    stall_s: float = 15.0


class TcpTransport:
    """A `Transport`.

    Parameters
    ----------
    resolve
        owner -> (the node's name, (host, port)).
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
        self._accepted: set[PeerConversation] = set()
        self._server: asyncio.Server | None = None
        self.refused = 0
        self.lanes: Lanes | None = None

    async def listen(self, host: str, port: int) -> int:
        """Accept peers; returns the port, which is another if 0 was asked for."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port, backlog=256)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def _accept(self) -> FrameStream:
        conversation = PeerConversation(
            self._store,
            self._cluster,
            self._names,
            (self.limits.reads, self.limits.bytes),
            self._accepted.discard,
            self.lanes,
        )
        stream = _Accepted(conversation, full=len(self._accepted) >= self.limits.accepted)
        if stream.full:
            self.refused += 1
        else:
            self._accepted.add(conversation)
        return stream

    # -- Transport -----------------------------------------------------------------------------------------------

    async def locate(self, owner: str, application: str, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        link = await self.link(owner)
        return await link.locate(application, self._store.secret(application), ranges)

    async def read(self, owner: str, application: str, pieces: Sequence[Piece], into: memoryview) -> None:
        link = await self.link(owner)
        await link.read(application, self._store.secret(application), pieces, into)

    async def tell(self, owner: str, application: str, notice: Notice) -> None:
        link = await self.link(owner)
        await link.tell(application, self._store.secret(application), notice)

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for link in [each for links in self._links.values() for each in links]:
            link.close()
        self._links.clear()
        for conversation in list(self._accepted):
            conversation.stream.abort()
        if self._server:
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- links ---------------------------------------------------------------------------------------------------

    async def link(self, owner: str) -> TcpLink:
        """A connection to the owner: an idle one, a new one, or the least busy one."""
        async with self._dialling.setdefault(owner, asyncio.Lock()):
            links = self._links[owner] = [each for each in self._links.pop(owner, []) if each.alive]  # newest last
            idle = [each for each in links if each.idle]
            if idle or len(links) >= self.limits.links_per_peer:
                return min(idle or links, key=lambda each: each.busy_bytes)
            if links and all(each.busy_bytes == 0 for each in links):
                return links[0]  # busy with small things only
            self._make_room()
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
            raise ShuffleFault(Reason.UNREACHABLE, f"the service of {owner} does not answer") from None

    def _make_room(self) -> None:
        if self.link_count < self.limits.links:
            return
        for owner, links in list(self._links.items()):
            for link in [each for each in links if each.idle]:
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
    """A peer's connection; one that is over the limit is closed before a byte is read."""

    def __init__(self, conversation: PeerConversation, *, full: bool) -> None:
        super().__init__(conversation)
        self.full = full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.full:
            self.abort()
