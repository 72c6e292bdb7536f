"""The reader's side of a channel: the owner stages pieces, we read them by RDMA READ and release them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from firesteel.rdma_shuffle.transport.tcp_link import TcpLink, batches
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain, address_of
from firesteel.rdma_shuffle.transport.verbs.queue_pair import QueuePair
from firesteel.rdma_shuffle.transport.verbs.settled import settled
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, TcpFallback
from firesteel.rdma_shuffle.wire.blocks import Piece
from firesteel.rdma_shuffle.wire.credits import Credits
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.peer_messages import Connect, Connected, Disconnect, Stage, Staged, Unstage

MAX_STAGE_BYTES = 4 << 20
"""Maximum bytes of one STAGE. While one is read, the next are copied, and the messages cost little in comparison."""


class ReadChannel:
    """A channel to one peer for one application, bound to the connection that opened it. `open` creates it."""

    def __init__(
        self, device: Device, link: TcpLink, pair: QueuePair, connected: Connected, gone: Callable[[], None]
    ) -> None:
        self._device, self._link, self._pair, self._gone = device, link, pair, gone
        self._number = connected.channel
        self._max_bytes = min(MAX_STAGE_BYTES, connected.size, device.max_message_bytes)
        self._credits = Credits(min(connected.end.reads, pair.end.reads), connected.size)
        self._users = 0
        self._unsubscribe = link.on_end(self._ended)

    @classmethod
    async def open(
        cls, device: Device, domain: Domain, link: TcpLink, application: str, secret: bytes, gone: Callable[[], None]
    ) -> ReadChannel:
        """Request a channel from the peer and connect both ends. `gone` is called when the connection ends.

        Raises
        ------
        TcpFallback
            PEER_HAS_NONE or CHANNEL_BROKE: use TCP for this application and peer.
        ShuffleFault
            As for any request.
        """
        try:
            pair = QueuePair(device, domain, serves=False)
        except (device.library.error, OSError) as error:
            raise TcpFallback(
                FallbackReason.CHANNEL_BROKE, f"a queue pair cannot be created: {one_line(error)}"
            ) from error
        connecting = asyncio.create_task(link.request(application, secret, lambda handle: Connect(handle, pair.end)))
        try:
            connected = _connected(await asyncio.shield(connecting))
            pair.connect(connected.end)
        except BaseException as error:
            pair.destroy()
            # The peer may still create the channel. Release it when its answer arrives.
            connecting.add_done_callback(lambda task: _release(link, task))
            if isinstance(error, ShuffleFault) and error.reason is Reason.NO_SPACE:
                raise TcpFallback(FallbackReason.PEER_HAS_NONE, error.detail) from error
            raise
        return cls(device, link, pair, connected, gone)

    def _ended(self) -> None:
        self._pair.fail()
        self._gone()

    @property
    def alive(self) -> bool:
        return not self._pair.broken

    @property
    def idle(self) -> bool:
        return not self._users

    async def read(self, pieces: Sequence[Piece], into: memoryview, lkey: int) -> None:
        """Read pieces into `into`, which is registered with `lkey`. The fence of `Transport.read` holds."""
        self._users += 1
        self._link.busy_bytes += len(into)
        try:
            base, at = address_of(into), 0
            parts = []
            for batch in batches(pieces, self._max_bytes):
                size = sum(piece.length for piece in batch)
                parts.append((batch, base + at, size))
                at += size
            if at != len(into):
                raise ValueError(f"the pieces have {at} bytes, the view {len(into)}")
            if len(parts) == 1:
                await self._read_part(*parts[0], lkey)
            else:
                await _all([self._read_part(*part, lkey) for part in parts])
        finally:
            self._users -= 1
            self._link.busy_bytes -= len(into)

    async def _read_part(self, pieces: list[Piece], address: int, size: int, lkey: int) -> None:
        await self._credits.take(size)
        staging = asyncio.create_task(self._stage(pieces, size))
        try:
            await asyncio.shield(staging)
        except asyncio.CancelledError:
            # The owner may still stage the pieces. Release them when its answer arrives.
            staging.add_done_callback(lambda task: self._unstage(task, size))
            raise
        except BaseException:
            self._unstage(staging, size)
            raise
        staged = staging.result()
        try:
            await self._pair.read(address, lkey, size, staged.address, staged.rkey)
        finally:
            self._unstage(staging, size)

    async def _stage(self, pieces: list[Piece], size: int) -> Staged:
        if self._pair.broken:
            raise TcpFallback(FallbackReason.CHANNEL_BROKE, "the queue pair is broken")
        try:
            answer = await self._link.ask(Stage(self._number, tuple(pieces)))
        except ShuffleFault as fault:
            if fault.reason is Reason.NO_SPACE:
                raise TcpFallback(FallbackReason.STAGE_FULL, fault.detail) from fault
            raise
        if not isinstance(answer, Staged):
            raise malformed(f"the answer to a STAGE of {size} bytes is not STAGED")
        return answer

    def _unstage(self, staging: asyncio.Task[Staged], size: int) -> None:
        if not staging.cancelled() and staging.exception() is None:
            self._link.send(Unstage(self._number, staging.result().lease))
        self._credits.give(size)

    def close(self) -> None:
        """Break the queue pair and disconnect from the peer. Idempotent."""
        self._unsubscribe()
        self._pair.fail()
        self._link.send(Disconnect(self._number))

    def destroy(self) -> None:
        """Destroy the queue pair before the application's memory is freed: nothing is written after this."""
        self._unsubscribe()
        self._pair.destroy()
        self._link.send(Disconnect(self._number))


def _connected(answer: Message) -> Connected:
    if not isinstance(answer, Connected) or not answer.size:
        raise malformed("the answer to CONNECT is not CONNECTED")
    return answer


def _release(link: TcpLink, connecting: asyncio.Task[Message]) -> None:
    if (
        not connecting.cancelled()
        and connecting.exception() is None
        and isinstance(answer := connecting.result(), Connected)
    ):
        link.send(Disconnect(answer.channel))


async def _all(coroutines: Sequence[Coroutine[None, None, None]]) -> None:
    """Run all concurrently. If one fails, cancel the others, wait for their end and raise its error."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await settled(asyncio.gather(*tasks, return_exceptions=True))
        raise
