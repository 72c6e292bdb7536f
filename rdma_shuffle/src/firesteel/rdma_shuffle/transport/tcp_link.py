"""The dialling side of a TCP connection to a peer: concurrent requests, with data received in place."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firesteel.rdma_shuffle.transport.base import ApplicationEnded, Notice, ShuffleRemoved
from firesteel.rdma_shuffle.wire import authentication
from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.codec import MAX_FRAME, VERSION, Frame
from firesteel.rdma_shuffle.wire.credits import Credits
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.frame_stream import FrameStream
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.messages import MAX_BLOCKS, Error, Ok, decode
from firesteel.rdma_shuffle.wire.peer_messages import (
    PEER,
    Attach,
    Attached,
    Authenticate,
    Authenticated,
    Data,
    Ended,
    Forget,
    Greet,
    Locate,
    Located,
    Read,
    Renew,
)

MAX_READ_BYTES = 16 << 20
"""Maximum bytes of one READ. Several are in flight at a time, and none delays the others for long."""


@dataclass(slots=True)
class Pending:
    """A request that waits for its answer. `view` is the target of a READ, or None after its cancellation."""

    answer: asyncio.Future[Message]
    view: memoryview | None = None
    size: int = 0
    reads: bool = False


class TcpLink:
    """One authenticated connection. `open` creates it."""

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
        self._end_callbacks: set[Callable[[], None]] = set()
        self.busy_bytes = 0

    @property
    def alive(self) -> bool:
        return self._ended is None

    @property
    def idle(self) -> bool:
        """Whether no request is in flight on the connection or on its channels."""
        return not self._pending and not self.busy_bytes

    @classmethod
    async def open(
        cls, owner: str, address: tuple[str, int], cluster: bytes, node: str, wanted: str, stall_s: float
    ) -> TcpLink:
        """Connect and authenticate both sides by the cluster secret.

        Raises
        ------
        ShuffleFault
            UNREACHABLE, or REFUSED if the other side is another node or refuses us.
        """
        link = cls(owner, cluster, node, wanted)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: FrameStream(link), *address)
        except (OSError, UnicodeError, OverflowError) as error:  # the last two: no host name, no port
            link._greeted.cancel()
            reason = getattr(error, "strerror", None) or error
            raise ShuffleFault(Reason.UNREACHABLE, f"the service of {owner} cannot be reached: {reason}") from error
        try:
            await link._authenticate()
        except BaseException:
            link.close()
            raise
        link._watch(stall_s)
        return link

    async def _authenticate(self) -> None:
        greet = await self._greeted
        if greet.version != VERSION:
            raise malformed(f"the service of {self.owner} speaks protocol version {greet.version}; expected {VERSION}")
        nonce = authentication.nonce()
        mac = authentication.dial_mac(self._cluster, greet.nonce, nonce, self._node, self._wanted)
        answer = await self.ask(Authenticate(self._node, self._wanted, nonce, mac))
        if not isinstance(answer, Authenticated):
            raise malformed("the answer to AUTHENTICATE is not AUTHENTICATED")
        expected = authentication.accept_mac(
            self._cluster, greet.nonce, nonce, self._node, answer.node, answer.reads, answer.size
        )
        if not authentication.matches(expected, answer.mac):
            raise ShuffleFault(
                Reason.REFUSED, f"the process that answers for {self.owner} does not know the cluster secret"
            )
        if not answer.reads or not answer.size:
            raise malformed("a peer gives no credits")
        self._nonces = (greet.nonce, nonce)
        self._stream.limit = MAX_FRAME
        self._stream.seal = authentication.Seal(self._cluster, greet.nonce, nonce, dialled=True)
        self._credits = Credits(answer.reads, answer.size)

    def _watch(self, stall_s: float) -> None:
        """Close the link if an answer is due and no byte arrives for `stall_s`: a stopped peer sends no reset."""
        loop = asyncio.get_running_loop()
        received, since = self._stream.received, loop.time()

        def check() -> None:
            nonlocal received, since
            if not self.alive:
                return
            if not self._pending or self._stream.received != received:
                received, since = self._stream.received, loop.time()
            elif loop.time() - since >= stall_s:
                self._end(
                    ShuffleFault(Reason.UNREACHABLE, f"the service of {self.owner} sent nothing for {stall_s:g} s")
                )
                return
            loop.call_later(stall_s / 4, check)

        loop.call_later(stall_s / 4, check)

    # -- requests ------------------------------------------------------------------------------------------------

    async def locate(self, application: str, secret: bytes, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        """See `Transport.locate`."""
        answer = await self.request(application, secret, lambda handle: Locate(handle, tuple(ranges)))
        if not isinstance(answer, Located) or len(answer.results) != len(ranges):
            raise malformed(f"the service of {self.owner} did not answer LOCATE with LOCATED for the same ranges")
        for block_range, result in zip(ranges, answer.results, strict=True):
            if isinstance(result, Found) and len(result.table) != block_range.end - block_range.first:
                raise malformed(f"the service of {self.owner} located different reduces")
        return answer.results

    async def read(self, application: str, secret: bytes, pieces: Sequence[Piece], into: memoryview) -> None:
        """See `Transport.read`. Sends READs one after the other, each within the credits and the maximum size."""
        limit = min(self._credits.size, MAX_READ_BYTES)
        at = 0
        for batch in batches(pieces, limit):
            size = sum(piece.length for piece in batch)
            handle = await self._handle(application, secret)
            await self._read(application, Read(handle, tuple(batch)), into[at : at + size], size)
            at += size
        if at != len(into):
            raise ValueError(f"the pieces have {at} bytes, the view {len(into)}")

    async def _read(self, application: str, message: Read, view: memoryview, size: int) -> None:
        await self._credits.take(size)
        if self._ended:
            self._credits.give(size)
            raise self._ended
        # From here on the credits return when the peer has answered, also after a cancellation on our side.
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

    async def notify(self, application: str, secret: bytes, notice: Notice) -> None:
        """See `Transport.notify`."""

        def message(handle: int) -> Message:
            if isinstance(notice, ShuffleRemoved):
                return Forget(handle, notice.shuffle)
            return Ended(handle) if isinstance(notice, ApplicationEnded) else Renew(handle)

        if not isinstance(await self.request(application, secret, message), Ok):
            raise malformed("the answer to a notice is not OK")

    async def request(self, application: str, secret: bytes, message: Callable[[int], Message]) -> Message:
        """Send a request about an application. `message` gets the peer's handle of the application."""
        try:
            return await self.ask(message(await self._handle(application, secret)))
        except ShuffleFault as fault:
            self._forget_handle(application, fault)
            raise

    def _forget_handle(self, application: str, fault: ShuffleFault) -> None:
        if fault.reason is Reason.UNKNOWN_APPLICATION:
            self._handles.pop(application, None)

    async def _handle(self, application: str, secret: bytes) -> int:
        """Return the peer's handle of an application. The first caller requests it."""
        task = self._handles.get(application)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._handles[application] = asyncio.create_task(self._attach(application, secret))
            task.add_done_callback(_consume_error)
        return await asyncio.shield(task)

    async def _attach(self, application: str, secret: bytes) -> int:
        answer = await self.ask(Attach(application, authentication.attach_mac(secret, *self._nonces, application)))
        if not isinstance(answer, Attached):
            raise malformed("the answer to ATTACH is not ATTACHED")
        return answer.handle

    async def ask(self, message: Message, pending: Pending | None = None) -> Message:
        """Send a request and return its answer. An ERROR is raised."""
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

    def send(self, message: Message) -> None:
        """Send a message that has no answer. Does nothing if the connection has ended."""
        if not self._ended:
            with contextlib.suppress(ConnectionError):
                self._stream.post(message, next(self._numbers) & 0xFFFFFFFF)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Register a callback for the end of the connection. Returns a function that removes it."""
        self._end_callbacks.add(callback)
        return lambda: self._end_callbacks.discard(callback)

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
            raise malformed("an answer belongs to no request")
        if isinstance(message, Data):
            if not pending.reads or message.size != pending.size:
                raise malformed(f"DATA has {message.size} bytes that were not requested")
            del self._pending[frame.request]
            self._landing = pending
            self._stream.land(pending.view, pending.size)
            return
        if pending.reads and not isinstance(message, Error):
            raise malformed("the answer to READ is not DATA")
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
            pending.answer.exception()  # the caller may have been cancelled and never retrieve it
        else:
            pending.answer.set_result(message)

    def broke(self, fault: ShuffleFault) -> None:
        self._end(fault)

    def lost(self, error: Exception | None) -> None:
        cause = f": {error}" if error else ""
        self._end(ShuffleFault(Reason.UNREACHABLE, f"the service of {self.owner} is lost{cause}"))

    def close(self) -> None:
        """Close the connection. Idempotent."""
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
        callbacks, self._end_callbacks = self._end_callbacks, set()
        for callback in callbacks:
            callback()


def _consume_error(task: asyncio.Task[int]) -> None:
    """Mark the error of a task as retrieved: every waiter has received it."""
    if not task.cancelled():
        task.exception()


def _tune(transport: asyncio.BaseTransport) -> None:
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def batches(pieces: Sequence[Piece], limit: int) -> list[list[Piece]]:
    """Group pieces into batches of at most `limit` bytes. A larger piece is split."""
    batches: list[list[Piece]] = [[]]
    left_in_batch = limit
    for piece in pieces:
        skip, left = piece.skip, piece.length
        while left:
            if not left_in_batch or len(batches[-1]) == MAX_BLOCKS:
                batches.append([])
                left_in_batch = limit
            part = min(left, left_in_batch)
            batches[-1].append(piece if part == piece.length else Piece(piece.range, skip, part))
            skip, left, left_in_batch = skip + part, left - part, left_in_batch - part
    return [batch for batch in batches if batch]
