"""The reader's side of a lane: pieces are staged by the owner, read by RDMA READ, and given back; several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from firesteel.rdma_shuffle.blocks import Piece
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.flow import Credits
from firesteel.rdma_shuffle.messages import Message
from firesteel.rdma_shuffle.peer_messages import Connect, Connected, Part, Stage, Staged, Unstage
from firesteel.rdma_shuffle.settled import settled
from firesteel.rdma_shuffle.transport.tcp_link import TcpLink, batches
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown, Why
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain, address_of
from firesteel.rdma_shuffle.transport.verbs.pair import Pair

MOST_STAGE = 4 << 20
"""Bytes of one STAGE: while one is read, the next are copied, and the messages cost little beside it."""


class ReadLane:
    """One lane to one peer for one application, on the connection that it was made over. `open` makes it."""

    def __init__(
        self, device: Device, link: TcpLink, pair: Pair, connected: Connected, gone: Callable[[], None]
    ) -> None:
        self._device, self._link, self._pair, self._gone = device, link, pair, gone
        self._number = connected.lane
        self._most = min(MOST_STAGE, connected.size, device.most_message)
        self._credits = Credits(min(connected.end.reads, pair.end.reads), connected.size)
        self._users = 0
        self._unsubscribe = link.when_ended(self._ended)

    @classmethod
    async def open(
        cls, device: Device, domain: Domain, link: TcpLink, application: str, secret: bytes, gone: Callable[[], None]
    ) -> ReadLane:
        """Ask the peer for a lane and connect both ends. `gone` is called when the connection ends, and the lane with it.

        Raises
        ------
        FallDown
            PEER_HAS_NONE, LANE_BROKE: this application goes by TCP to this peer.
        ShuffleFault
            As of any request.
        """
        try:
            pair = Pair(device, domain, serves=False)
        except (device.library.error, OSError) as error:
            raise FallDown(Why.LANE_BROKE, f"no queue pair can be made: {one_line(error)}") from error
        asking = asyncio.create_task(link.request(application, secret, lambda handle: Connect(handle, pair.end)))
        try:
            connected = _connected(await asyncio.shield(asking))
            pair.connect(connected.end)
        except BaseException as error:
            pair.destroy()
            # The peer has been asked: a lane that it makes for us is given up when it says so, without us.
            asking.add_done_callback(lambda task: _give_up(link, task))
            if isinstance(error, ShuffleFault) and error.reason is Reason.NO_SPACE:
                raise FallDown(Why.PEER_HAS_NONE, error.detail) from error
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
        """Fill `into`, which is registered as `lkey`. The fence of `Transport.read` holds."""
        self._users += 1
        self._link.busy_bytes += len(into)
        try:
            base, at = address_of(into), 0
            parts = []
            for batch in batches(pieces, self._most):
                size = sum(each.length for each in batch)
                parts.append((batch, base + at, size))
                at += size
            if at != len(into):
                raise ValueError(f"pieces of {at} bytes for a view of {len(into)}")
            if len(parts) == 1:
                await self._part(*parts[0], lkey)
            else:
                await _all([self._part(*each, lkey) for each in parts])
        finally:
            self._users -= 1
            self._link.busy_bytes -= len(into)

    async def _part(self, pieces: list[Piece], address: int, size: int, lkey: int) -> None:
        await self._credits.take(size)
        staging = asyncio.create_task(self._stage(pieces, size))
        try:
            await asyncio.shield(staging)
        except asyncio.CancelledError:
            # The owner has been asked: what it stages is given back when it says so, without us.
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
            raise FallDown(Why.LANE_BROKE, "the queue pair is broken")
        try:
            answer = await self._link.ask(Stage(self._number, tuple(pieces)))
        except ShuffleFault as fault:
            if fault.reason is Reason.NO_SPACE:
                raise FallDown(Why.STAGE_FULL, fault.detail) from fault
            raise
        if not isinstance(answer, Staged):
            raise malformed(f"STAGE of {size} bytes had another answer than STAGED")
        return answer

    def _unstage(self, staging: asyncio.Task[Staged], size: int) -> None:
        if not staging.cancelled() and staging.exception() is None:
            self._link.say(Unstage(self._number, staging.result().lease))
        self._credits.give(size)

    def close(self) -> None:
        """Break it, and tell the peer. Idempotent."""
        self._unsubscribe()
        self._pair.fail()
        self._link.say(Part(self._number))

    def destroy(self) -> None:
        """The application's memory goes: nothing may land any more, at once."""
        self._unsubscribe()
        self._pair.destroy()
        self._link.say(Part(self._number))


def _connected(answer: Message) -> Connected:
    if not isinstance(answer, Connected) or not answer.size:
        raise malformed("CONNECT had another answer than CONNECTED")
    return answer


def _give_up(link: TcpLink, asking: asyncio.Task[Message]) -> None:
    if not asking.cancelled() and asking.exception() is None and isinstance(answer := asking.result(), Connected):
        link.say(Part(answer.lane))


async def _all(works: Sequence[Coroutine[None, None, None]]) -> None:
    """All of them at a time; when one fails, the others are cancelled, and when all have ended, its error is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await settled(asyncio.gather(*tasks, return_exceptions=True))
        raise
