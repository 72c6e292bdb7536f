"""The dialling side of one TCP connection to a peer's service: requests by number, data into the memory it is for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firesteel.rdma_shuffle import proof
from firesteel.rdma_shuffle.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.codec import MAX_FRAME, VERSION, Frame
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.flow import Credits
from firesteel.rdma_shuffle.messages import MAX_BLOCKS, Error, Message, Ok, decode
from firesteel.rdma_shuffle.peer_messages import (
    PEER,
    Attach,
    Attached,
    Data,
    Ended,
    Forget,
    Greet,
    Locate,
    Located,
    Prove,
    Proved,
    Read,
    Renew,
)
from firesteel.rdma_shuffle.stream import FrameStream
from firesteel.rdma_shuffle.transport.base import Forgotten, Notice, Over

MOST_READ = 16 << 20
"""Bytes of one READ: several of them are on their way at a time, and none holds up the others for long."""


@dataclass(slots=True)
class Pending:
    """A request that waits for its answer. `view`: where a READ's bytes go; None once it was given up."""

    answer: asyncio.Future[Message]
    view: memoryview | None = None
    size: int = 0
    reads: bool = False


class TcpLink:
    """One proved connection. `open` makes it."""

    def __init__(self, owner: str, cluster: bytes, node: str, wanted: str) -> None:
        self.owner = owner
        self._cluster, self._node, self._wanted = cluster, node, wanted
        loop = asyncio.get_running_loop()
        self._stream: FrameStream
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._landing: Pending | None = None
        self._handles: dict[str, asyncio.Task[int]] = {}
        self._greeted: asyncio.Future[Greet] = loop.create_future()
        self._nonces = (b"", b"")
        self._credits = Credits(1, 1)
        self._ended: ShuffleFault | None = None
        self._when_ended: set[Callable[[], None]] = set()
        self.busy_bytes = 0

    @property
    def alive(self) -> bool:
        return self._ended is None

    @property
    def idle(self) -> bool:
        """Nothing is on its way, here or on a lane that was made over it."""
        return not self._pending and not self.busy_bytes

    @classmethod
    async def open(
        cls, owner: str, address: tuple[str, int], cluster: bytes, node: str, wanted: str, stall_s: float
    ) -> TcpLink:
        """Connect, and prove to each other that both know the cluster's secret.

        Raises
        ------
        ShuffleFault
            UNREACHABLE, or REFUSED when the other side is not whom we want, or does not want us.
        """
        link = cls(owner, cluster, node, wanted)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: FrameStream(link), *address)
        except OSError as error:
            link._greeted.cancel()
            raise ShuffleFault(Reason.UNREACHABLE, f"the service of {owner}: {error.strerror or error}") from error
        try:
            await link._prove()
        except BaseException:
            link.close()
            raise
        link._watch(stall_s)
        return link

    async def _prove(self) -> None:
        greet = await self._greeted
        if greet.version != VERSION:
            raise malformed(f"the service of {self.owner} speaks version {greet.version}")
        ours = proof.nonce()
        mac = proof.dials(self._cluster, greet.nonce, ours, self._node, self._wanted)
        answer = await self.ask(Prove(self._node, self._wanted, ours, mac))
        if not isinstance(answer, Proved):
            raise malformed("PROVE had another answer than PROVED")
        wanted = proof.answers(self._cluster, greet.nonce, ours, self._node, answer.node, answer.reads, answer.size)
        if not proof.same(wanted, answer.mac):
            raise ShuffleFault(Reason.REFUSED, f"what answers for {self.owner} does not know the cluster's secret")
        if not answer.reads or not answer.size:
            raise malformed("a peer that gives no credits")
        self._nonces = (greet.nonce, ours)
        self._stream.limit = MAX_FRAME
        self._stream.seal = proof.Seal(self._cluster, greet.nonce, ours, dialled=True)
        self._credits = Credits(answer.reads, answer.size)

    def _watch(self, stall_s: float) -> None:
        """End the link when answers are due and nothing has come for `stall_s`: a stopped peer sends no reset."""
        loop = asyncio.get_running_loop()
        seen, since = self._stream.received, loop.time()

        def look() -> None:
            nonlocal seen, since
            if not self.alive:
                return
            if not self._pending or self._stream.received != seen:
                seen, since = self._stream.received, loop.time()
            elif loop.time() - since >= stall_s:
                self._end(ShuffleFault(Reason.UNREACHABLE, f"the service of {self.owner} sends nothing any more"))
                return
            loop.call_later(stall_s / 4, look)

        loop.call_later(stall_s / 4, look)

    # -- requests ------------------------------------------------------------------------------------------------

    async def locate(self, application: str, secret: bytes, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        """As `Transport.locate`."""
        answer = await self.request(application, secret, lambda handle: Locate(handle, tuple(ranges)))
        if not isinstance(answer, Located) or len(answer.found) != len(ranges):
            raise malformed(f"the service of {self.owner} located something else")
        for asked, found in zip(ranges, answer.found, strict=True):
            if isinstance(found, Found) and len(found.table) != asked.end - asked.first:
                raise malformed(f"the service of {self.owner} located other reduces")
        return answer.found

    async def read(self, application: str, secret: bytes, pieces: Sequence[Piece], into: memoryview) -> None:
        """As `Transport.read`, in as many READs as credits and frames ask for, one behind the other."""
        most = min(self._credits.size, MOST_READ)
        at = 0
        for batch in batches(pieces, most):
            size = sum(each.length for each in batch)
            handle = await self._handle(application, secret)
            await self._read(application, Read(handle, tuple(batch)), into[at : at + size], size)
            at += size
        if at != len(into):
            raise ValueError(f"pieces of {at} bytes for a view of {len(into)}")

    async def _read(self, application: str, message: Read, view: memoryview, size: int) -> None:
        await self._credits.take(size)
        if self._ended:
            self._credits.give(size)
            raise self._ended
        # From here on the credits come back when the peer has answered, however it ends on our side.
        pending = Pending(asyncio.get_running_loop().create_future(), view, size, reads=True)
        try:
            await self.ask(message, pending)
        except ShuffleFault as fault:
            self._forget_handle(application, fault)
            raise
        finally:
            pending.view = None
            if self._landing is pending:
                self._stream.discard()

    async def tell(self, application: str, secret: bytes, notice: Notice) -> None:
        """As `Transport.tell`."""

        def message(handle: int) -> Message:
            if isinstance(notice, Forgotten):
                return Forget(handle, notice.shuffle)
            return Ended(handle) if isinstance(notice, Over) else Renew(handle)

        if not isinstance(await self.request(application, secret, message), Ok):
            raise malformed("a notice had another answer than OK")

    async def request(self, application: str, secret: bytes, message: Callable[[int], Message]) -> Message:
        """Ask something about an application: `message` of the peer's number for it."""
        try:
            return await self.ask(message(await self._handle(application, secret)))
        except ShuffleFault as fault:
            self._forget_handle(application, fault)
            raise

    def _forget_handle(self, application: str, fault: ShuffleFault) -> None:
        if fault.reason is Reason.UNKNOWN_APPLICATION:
            self._handles.pop(application, None)

    async def _handle(self, application: str, secret: bytes) -> int:
        """The peer's number for an application: asked once, by whoever comes first."""
        task = self._handles.get(application)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._handles[application] = asyncio.create_task(self._attach(application, secret))
            task.add_done_callback(_look_at)
        return await asyncio.shield(task)

    async def _attach(self, application: str, secret: bytes) -> int:
        answer = await self.ask(Attach(application, proof.attach(secret, *self._nonces, application)))
        if not isinstance(answer, Attached):
            raise malformed("ATTACH had another answer than ATTACHED")
        return answer.handle

    async def ask(self, message: Message, pending: Pending | None = None) -> Message:
        """The answer to a message, whatever it is; an ERROR is raised."""
        if self._ended:
            raise self._ended
        pending = pending or Pending(asyncio.get_running_loop().create_future())
        number = next(self._numbers) & 0xFFFFFFFF
        self._pending[number] = pending
        self.busy_bytes += pending.size
        try:
            self._stream.post(message, number)
            await self._stream.drained()
        except ConnectionError as error:
            raise self._ended or ShuffleFault(Reason.UNREACHABLE, f"the service of {self.owner} is lost") from error
        return await pending.answer

    def say(self, message: Message) -> None:
        """Send what has no answer; nothing if the connection has ended."""
        if not self._ended:
            with contextlib.suppress(ConnectionError):
                self._stream.post(message, next(self._numbers) & 0xFFFFFFFF)

    def when_ended(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called when the connection ends; returns what takes it back."""
        self._when_ended.add(call)
        return lambda: self._when_ended.discard(call)

    # -- answers (Listener) --------------------------------------------------------------------------------------

    def connected(self, stream: FrameStream) -> None:
        self._stream = stream
        _tune(stream.transport)

    def frame(self, frame: Frame) -> None:
        message = decode(frame.kind, frame.body, PEER)
        if isinstance(message, Greet) and not self._greeted.done():
            self._greeted.set_result(message)
            return
        if isinstance(message, Error) and not frame.request:
            raise ShuffleFault(message.reason, f"the service of {self.owner}: {message.detail}")
        pending = self._pending.get(frame.request)
        if pending is None:
            raise malformed("an answer that nobody asked for")
        if isinstance(message, Data):
            if not pending.reads or message.size != pending.size:
                raise malformed(f"{message.size} bytes of data that were not asked for")
            del self._pending[frame.request]
            self._landing = pending
            self._stream.land(pending.view, pending.size)
            return
        if pending.reads and not isinstance(message, Error):
            raise malformed("READ had another answer than DATA")
        del self._pending[frame.request]
        self._answered(pending, message)

    def landed(self) -> None:
        pending, self._landing = self._landing, None
        if pending:
            self._answered(pending, Ok())

    def _answered(self, pending: Pending, message: Message) -> None:
        self.busy_bytes -= pending.size
        if pending.reads:
            self._credits.give(pending.size)
        if pending.answer.done():
            return
        if isinstance(message, Error):
            pending.answer.set_exception(ShuffleFault(message.reason, message.detail))
            pending.answer.exception()  # whoever asked may have been cancelled before it could look
        else:
            pending.answer.set_result(message)

    def broke(self, fault: ShuffleFault) -> None:
        self._end(fault)

    def lost(self, error: Exception | None) -> None:
        cause = f": {error}" if error else ""
        self._end(ShuffleFault(Reason.UNREACHABLE, f"the service of {self.owner} is lost{cause}"))

    def close(self) -> None:
        """Idempotent."""
        self._end(ShuffleFault(Reason.UNREACHABLE, f"the connection to {self.owner} was closed"))

    def _end(self, fault: ShuffleFault) -> None:
        if self._ended:
            return
        self._ended = fault
        self._stream.abort()
        if not self._greeted.done():
            self._greeted.set_exception(fault)
            self._greeted.exception()
        waiting, self._pending = list(self._pending.values()), {}
        if self._landing:
            waiting.append(self._landing)
            self._landing = None
        for pending in waiting:
            self._answered(pending, Error(fault.reason, fault.detail))
        calls, self._when_ended = self._when_ended, set()
        for call in calls:
            call()


def _look_at(task: asyncio.Task[int]) -> None:
    """Its error has been told to whoever waited."""
    if not task.cancelled():
        task.exception()


def _tune(transport: asyncio.BaseTransport) -> None:
    made: socket.socket = transport.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def batches(pieces: Sequence[Piece], most: int) -> list[list[Piece]]:
    """Pieces in groups of at most `most` bytes; one that is larger is cut."""
    batches: list[list[Piece]] = [[]]
    room = most
    for piece in pieces:
        skip, left = piece.skip, piece.length
        while left:
            if not room or len(batches[-1]) == MAX_BLOCKS:
                batches.append([])
                room = most
            part = min(left, room)
            batches[-1].append(piece if part == piece.length else Piece(piece.range, skip, part))
            skip, left, room = skip + part, left - part, room - part
    return [batch for batch in batches if batch]
