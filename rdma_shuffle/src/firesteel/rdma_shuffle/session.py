"""One connection of an executor, or of whoever asks for the status: the accepting side of the client protocol."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Protocol

from firesteel.rdma_shuffle import proof
from firesteel.rdma_shuffle.applications import Application, Applications
from firesteel.rdma_shuffle.codec import MAX_FRAME, VERSION, Frame
from firesteel.rdma_shuffle.conversation import Conversation
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.fetching import Fetching, local
from firesteel.rdma_shuffle.holders import Holder
from firesteel.rdma_shuffle.messages import (
    Blocks,
    Challenge,
    Claim,
    End,
    Fetch,
    Hello,
    Message,
    Ok,
    Ping,
    Register,
    Release,
    Remove,
    Status,
    StatusIs,
    Told,
    Welcome,
    decode,
)
from firesteel.rdma_shuffle.metrics import Metrics
from firesteel.rdma_shuffle.settings import Settings
from firesteel.rdma_shuffle.stream import FrameStream
from firesteel.rdma_shuffle.transport.base import Forgotten, Notice, Over, Renewed, Transport

_CREDENTIALS = struct.Struct("3i")
_TELL_S = 10.0


class Node(Protocol):
    """The service, as its sessions see it."""

    settings: Settings
    metrics: Metrics
    applications: Applications
    transport: Transport | None
    fetching: Fetching | None
    port: int | None
    sessions: set[Session]

    def status(self) -> str:
        """As JSON."""
        ...


class Session(Conversation):
    """One connection on the Unix socket."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._nonce = proof.nonce()
        self._application: Application | None = None
        self._holder: Holder | None = None
        self._pid = 0

    def greeting(self) -> Message:
        return Challenge(VERSION, self._nonce)

    def connected(self, stream: FrameStream) -> None:
        made: socket.socket = stream.transport.get_extra_info("socket")
        self._pid, user, _ = _CREDENTIALS.unpack(
            made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        super().connected(stream)
        if user not in self._node.settings.users:
            self._turn_away(ShuffleFault(Reason.REFUSED, f"user {user} may not use this service"))
        elif len(self._node.sessions) >= self._node.settings.limits.connections:
            self._turn_away(
                ShuffleFault(Reason.NO_SPACE, f"{len(self._node.sessions)} connections are the most allowed")
            )
        else:
            self._node.sessions.add(self)

    def _turn_away(self, fault: ShuffleFault) -> None:
        self._node.metrics.add("connections_refused")
        self.stream.pause()
        self.broke(fault)

    def over(self) -> None:
        self._node.sessions.discard(self)
        if self._application:
            self._application.connections.discard(self)
            self._application.heard = time.monotonic()

    def part(self) -> None:
        """The application has ended: end after the current answers."""
        self.stream.pause()
        self._last = asyncio.create_task(self._part_quietly())

    async def _part_quietly(self) -> None:
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
        if not self.proved:
            return self._introduce(message)
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
                return await self._tell(application, message.owners, Forgotten(message.shuffle))
            case Ping():
                return await self._tell(self._current(), message.owners, Renewed())
            case End():
                return await self._end(message)
            case _:
                raise malformed(f"a frame of type {message.kind} after HELLO")
        return Ok()

    def _introduce(self, message: Message) -> Message:
        if isinstance(message, Claim):
            self._node.applications.claim(message.application, message.secret)
            return Ok()
        if not isinstance(message, Hello):
            raise malformed(f"a frame of type {message.kind} before HELLO")
        application = self._node.applications.of(message.application)
        mac = proof.client(application.secret, self._nonce, message.nonce, application.name)
        if not proof.same(mac, message.mac):
            raise ShuffleFault(Reason.REFUSED, "the application's secret is another")
        slab = self._node.applications.slab(application)
        self.proved, self._application = True, application
        self._holder = application.holders.of(self._pid)
        self.stream.limit = MAX_FRAME
        application.connections.add(self)
        application.heard = time.monotonic()
        settings = self._node.settings
        return Welcome(
            proof.server(application.secret, self._nonce, message.nonce, application.name),
            settings.node,
            max(1, int(settings.lease_s)),
            tuple(map(str, settings.folders)),
            (slab.name,) if slab else (),
        )

    def _current(self) -> Application:
        """Our application, unless it has ended: another may bear its name by now."""
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
            message.shuffle, message.map_id, message.data, message.index, message.table, applications.disk_room
        )
        self._node.metrics.add("registered_outputs")
        self._node.metrics.add("registered_bytes", catalogue.size - before)

    async def _fetch(self, message: Fetch) -> Blocks:
        application, node = self._current(), self._node
        if node.settings.is_here(message.owner, node.port):
            return self._answered(Blocks(0, local(application, message.ranges, node.metrics)))
        if node.fetching is None:
            raise ShuffleFault(Reason.UNREACHABLE, f"{message.owner} is another node, and this service has no peers")
        found, rooms = await node.fetching.fetch(
            application, message.owner, message.ranges, message.milliseconds / 1000
        )
        assert self._holder
        try:
            self._current()
        except ShuffleFault:
            for room in rooms:
                room.free()
            raise
        return self._answered(Blocks(application.holders.lend(self._holder, rooms), found))

    def _answered(self, blocks: Blocks) -> Blocks:
        for each in blocks.found:
            reason: Reason | None = getattr(each, "reason", None)
            if reason:
                self._node.metrics.faults[reason.name] += 1
        return blocks

    def _release(self, message: Release) -> None:
        if self._application and self._holder:
            self._application.holders.release(self._holder, message.lease)

    async def _end(self, message: End) -> Told:
        application = self._current()
        application.connections.discard(self)
        told = await self._tell(application, message.owners, Over())
        self.proved = False
        self._application = self._holder = None
        self._node.applications.end(application.name)
        return told

    async def _tell(self, application: Application, owners: tuple[str, ...], notice: Notice) -> Told:
        application.heard = time.monotonic()
        others = [each for each in dict.fromkeys(owners) if not self._node.settings.is_here(each, self._node.port)]
        reasons = await asyncio.gather(*(self._tell_one(each, application.name, notice) for each in others))
        return Told(tuple((owner, reason) for owner, reason in zip(others, reasons, strict=True) if reason))

    async def _tell_one(self, owner: str, application: str, notice: Notice) -> Reason | None:
        if self._node.transport is None:
            return Reason.UNREACHABLE
        try:
            async with asyncio.timeout(_TELL_S):
                await self._node.transport.tell(owner, application, notice)
        except TimeoutError:
            return Reason.TIMEOUT
        except ShuffleFault as fault:
            # Who does not know the application has nothing to do for it.
            return None if fault.reason is Reason.UNKNOWN_APPLICATION else fault.reason
        return None
