"""The accepting side of the client protocol: one connection of an executor, a driver or a status command."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Protocol

from firesteel.rdma_shuffle.applications import Application, Applications
from firesteel.rdma_shuffle.fetcher import Fetcher, local
from firesteel.rdma_shuffle.memory.client_processes import ClientProcess
from firesteel.rdma_shuffle.metrics import Metrics
from firesteel.rdma_shuffle.settings import Settings
from firesteel.rdma_shuffle.transport.base import ApplicationEnded, LeaseRenewed, Notice, ShuffleRemoved, Transport
from firesteel.rdma_shuffle.wire import authentication
from firesteel.rdma_shuffle.wire.blocks import Missing
from firesteel.rdma_shuffle.wire.codec import MAX_FRAME, VERSION, Frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.frame_stream import FrameStream
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.messages import (
    Blocks,
    Challenge,
    Claim,
    End,
    Fetch,
    Hello,
    Notified,
    Ok,
    Ping,
    Register,
    Release,
    Remove,
    Status,
    StatusIs,
    Welcome,
    decode,
)
from firesteel.rdma_shuffle.wire.server_connection import ServerConnection

_CREDENTIALS = struct.Struct("3i")
_NOTIFY_S = 10.0


class Node(Protocol):
    """The service, as its client connections see it."""

    settings: Settings
    metrics: Metrics
    applications: Applications
    transport: Transport | None
    fetcher: Fetcher | None
    port: int | None
    connections: set[ClientConnection]

    def status(self) -> str:
        """Return the status as JSON."""
        ...


class ClientConnection(ServerConnection):
    """One connection on the Unix socket."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._nonce = authentication.nonce()
        self._application: Application | None = None
        self._process: ClientProcess | None = None
        self._pid = 0

    def greeting(self) -> Message:
        return Challenge(VERSION, self._nonce)

    def connected(self, stream: FrameStream) -> None:
        accepted: socket.socket = stream.transport.get_extra_info("socket")
        self._pid, user, _ = _CREDENTIALS.unpack(
            accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        super().connected(stream)
        if user not in self._node.settings.users:
            self._refuse(ShuffleFault(Reason.REFUSED, f"user id {user} is not allowed to use this service"))
        elif len(self._node.connections) >= self._node.settings.limits.connections:
            self._refuse(
                ShuffleFault(
                    Reason.NO_SPACE, f"the limit of {self._node.settings.limits.connections} connections is reached"
                )
            )
        else:
            self._node.connections.add(self)

    def _refuse(self, fault: ShuffleFault) -> None:
        self._node.metrics.add("connections_refused")
        self.stream.pause()
        self.broke(fault)

    def closed(self) -> None:
        self._node.connections.discard(self)
        if self._application:
            self._application.connections.discard(self)
            self._application.last_heard = time.monotonic()

    def end(self) -> None:
        """Close after the current answers: the application has ended."""
        self.stream.pause()
        self._last = asyncio.create_task(self._close_after_answers())

    async def _close_after_answers(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.stream.close()

    # -- requests ------------------------------------------------------------------------------------------------

    async def answer(self, frame: Frame) -> Message | None:
        try:
            return await self._answer(decode(frame.kind, frame.body))
        except ShuffleFault as fault:
            self._node.metrics.faults[fault.reason.name] += 1
            raise

    async def _answer(self, message: Message) -> Message | None:
        if isinstance(message, Status):
            return StatusIs(self._node.status())
        if not self.authenticated:
            return self._handshake(message)
        match message:
            case Register():
                self._register(message)
            case Fetch():
                return await self._fetch(message)
            case Release():
                self._release(message)
                return None
            case Remove():
                application = self._current()
                application.catalogue.remove(message.shuffle)
                return await self._notify(application, message.owners, ShuffleRemoved(message.shuffle))
            case Ping():
                return await self._notify(self._current(), message.owners, LeaseRenewed())
            case End():
                return await self._end(message)
            case _:
                raise malformed(f"a frame of type {message.kind} is not allowed after HELLO")
        return Ok()

    def _handshake(self, message: Message) -> Message:
        if isinstance(message, Claim):
            self._node.applications.claim(message.application, message.secret)
            return Ok()
        if not isinstance(message, Hello):
            raise malformed(f"a frame of type {message.kind} is not allowed before HELLO")
        application = self._node.applications.of(message.application)
        mac = authentication.client_mac(application.secret, self._nonce, message.nonce, application.name)
        if not authentication.matches(mac, message.mac):
            raise ShuffleFault(Reason.REFUSED, "the client does not know the application's secret")
        slab = self._node.applications.slab(application)
        self.authenticated, self._application = True, application
        self._process = application.clients.of(self._pid)
        self.stream.limit = MAX_FRAME
        application.connections.add(self)
        application.last_heard = time.monotonic()
        settings = self._node.settings
        return Welcome(
            authentication.server_mac(application.secret, self._nonce, message.nonce, application.name),
            settings.node,
            max(1, int(settings.lease_s)),
            tuple(map(str, settings.folders)),
            (slab.name,) if slab else (),
        )

    def _current(self) -> Application:
        """Return our application. Raises if it has ended, even if a new one has its name."""
        application = self._application
        assert application
        if self._node.applications.of(application.name) is not application:
            raise ShuffleFault(Reason.UNKNOWN_APPLICATION, f"{application.name} has ended")
        return application

    def _register(self, message: Register) -> None:
        applications = self._node.applications
        catalogue = self._current().catalogue
        before = catalogue.size
        catalogue.register(
            message.shuffle, message.map_id, message.data, message.index, message.table, applications.disk_bytes_left
        )
        self._node.metrics.add("registered_outputs")
        self._node.metrics.add("registered_bytes", catalogue.size - before)

    async def _fetch(self, message: Fetch) -> Blocks:
        application, node = self._current(), self._node
        if node.settings.is_here(message.owner, node.port):
            return self._counted(Blocks(0, local(application, message.ranges, node.metrics)))
        if node.fetcher is None:
            raise ShuffleFault(
                Reason.UNREACHABLE,
                f"{message.owner} is another node, and this service has no peers (--cluster-secret is not set)",
            )
        results, allocations = await node.fetcher.fetch(
            application, message.owner, message.ranges, message.milliseconds / 1000
        )
        assert self._process
        try:
            self._current()
        except ShuffleFault:
            for allocation in allocations:
                allocation.free()
            raise
        return self._counted(Blocks(application.clients.lend(self._process, allocations), results))

    def _counted(self, blocks: Blocks) -> Blocks:
        for result in blocks.results:
            if isinstance(result, Missing):
                self._node.metrics.faults[result.reason.name] += 1
        return blocks

    def _release(self, message: Release) -> None:
        if self._application and self._process:
            self._application.clients.release(self._process, message.lease)

    async def _end(self, message: End) -> Notified:
        application = self._current()
        application.connections.discard(self)
        notified = await self._notify(application, message.owners, ApplicationEnded())
        self.authenticated = False
        self._application = self._process = None
        self._node.applications.end(application.name)
        return notified

    async def _notify(self, application: Application, owners: tuple[str, ...], notice: Notice) -> Notified:
        application.last_heard = time.monotonic()
        others = [owner for owner in dict.fromkeys(owners) if not self._node.settings.is_here(owner, self._node.port)]
        reasons = await asyncio.gather(*(self._notify_one(owner, application.name, notice) for owner in others))
        return Notified(tuple((owner, reason) for owner, reason in zip(others, reasons, strict=True) if reason))

    async def _notify_one(self, owner: str, application: str, notice: Notice) -> Reason | None:
        if self._node.transport is None:
            return Reason.UNREACHABLE
        try:
            async with asyncio.timeout(_NOTIFY_S):
                await self._node.transport.notify(owner, application, notice)
        except TimeoutError:
            return Reason.TIMEOUT
        except ShuffleFault as fault:
            # A node that does not know the application has nothing to do.
            return None if fault.reason is Reason.UNKNOWN_APPLICATION else fault.reason
        return None
