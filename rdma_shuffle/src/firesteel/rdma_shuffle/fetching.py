"""From ranges of an owner's map outputs to bytes that a process of this node can read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from firesteel.rdma_shuffle.applications import Application
from firesteel.rdma_shuffle.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.flow import Credits
from firesteel.rdma_shuffle.memory import Room
from firesteel.rdma_shuffle.metrics import Metrics
from firesteel.rdma_shuffle.transport.base import Transport

MOST_CHUNK = 16 << 20
"""Bytes that are placed and read together: enough to fill a link, little enough to find a gap in a slab."""
_ANSWER_SHARE = 0.95
"""Of the time that a request gives: what is left is for the answer's own way."""


@dataclass(slots=True)
class Chunk:
    """Blocks that lie one behind the other in one room: which of those that were asked for, and their sizes."""

    indices: list[int]
    sizes: list[int]
    size: int


def local(application: Application, ranges: Sequence[Range], metrics: Metrics) -> tuple[Found | Missing, ...]:
    """Blocks of this node: extents of files."""
    found = tuple(map(application.catalogue.locate, ranges))
    for each in found:
        if isinstance(each, Found):
            metrics.add("local_blocks")
            metrics.add("local_bytes", sum(extent.length for extent in each.extents))
    return found


class Fetching:
    """Fetches from peers, within the service's limit of bytes in flight."""

    def __init__(self, transport: Transport, metrics: Metrics, in_flight: Credits) -> None:
        self._transport, self._metrics, self.in_flight = transport, metrics, in_flight

    async def fetch(
        self, application: Application, owner: str, ranges: Sequence[Range], seconds: float
    ) -> tuple[tuple[Found | Missing, ...], list[Room]]:
        """Bring the blocks here.

        Returns
        -------
        tuple
            What was found of each range, and the rooms that hold it: the caller's to free.

        Raises
        ------
        ShuffleFault
            Nothing of it can be had.
        """
        deadline = asyncio.get_running_loop().time() + seconds * _ANSWER_SHARE
        try:
            async with asyncio.timeout_at(deadline):
                found = list(await self._transport.locate(owner, application.name, ranges))
        except TimeoutError:
            raise ShuffleFault(Reason.TIMEOUT, f"{owner} located nothing within {seconds:g} s") from None
        except ShuffleFault as fault:
            if fault.reason is not Reason.UNKNOWN_APPLICATION:
                raise
            # Known here, not there: to whoever asked it is a block that is lost.
            found = [Missing(Reason.NOT_HERE, fault.detail)] * len(ranges)
        rooms: list[Room] = []
        try:
            async with asyncio.TaskGroup() as group:
                for chunk in _chunks(found, min(MOST_CHUNK, application.memory.chunk_bytes)):
                    group.create_task(self._chunk(application, owner, ranges, found, chunk, rooms, deadline))
        except BaseException:
            for room in rooms:
                room.free()
            raise
        got = [each for each in found if isinstance(each, Found)]
        self._metrics.add("remote_blocks", len(got))
        self._metrics.add("remote_bytes", sum(extent.length for each in got for extent in each.extents))
        return tuple(found), rooms

    async def _chunk(
        self,
        application: Application,
        owner: str,
        ranges: Sequence[Range],
        found: list[Found | Missing],
        chunk: Chunk,
        rooms: list[Room],
        deadline: float,
    ) -> None:
        try:
            room = await self._filled(application, owner, _pieces(ranges, chunk), chunk.size, deadline)
        except ShuffleFault as fault:
            for index in chunk.indices:
                found[index] = Missing(fault.reason, fault.detail)
            return
        rooms.append(room)
        at = 0
        for index, size in zip(chunk.indices, chunk.sizes, strict=True):
            each = found[index]
            assert isinstance(each, Found)
            found[index] = Found(each.table, (room.extent(at, size),))
            at += size

    async def _filled(
        self, application: Application, owner: str, pieces: list[Piece], size: int, deadline: float
    ) -> Room:
        held = min(size, self.in_flight.size)
        late = ShuffleFault(Reason.TIMEOUT, f"{owner} did not give {size} bytes in time")
        try:
            async with asyncio.timeout_at(deadline):
                await self.in_flight.take(held)
        except TimeoutError:
            raise late from None
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    room = await application.memory.room(size)
            except TimeoutError:
                raise late from None
            if room.path:
                self._metrics.add("spooled_bytes", size)
            await self._read(room, application, owner, pieces, deadline, late)
            return room
        finally:
            self.in_flight.give(held)

    async def _read(
        self, room: Room, application: Application, owner: str, pieces: list[Piece], deadline: float, late: ShuffleFault
    ) -> None:
        reading = asyncio.create_task(self._transport.read(owner, application.name, pieces, room.view))
        try:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait({reading}, timeout=left)
        except asyncio.CancelledError:
            self._fence(room, reading)
            raise
        if not done:
            self._fence(room, reading)
            raise late
        if fault := reading.exception():
            room.free()
            raise fault
        room.filled()

    def _fence(self, room: Room, reading: asyncio.Task[None]) -> None:
        """The answer must not wait for the transport to stop: the room does."""
        self._metrics.add("fences")
        room.fence(reading)
        reading.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        reading.cancel()


def _pieces(ranges: Sequence[Range], chunk: Chunk) -> list[Piece]:
    return [Piece(ranges[index], 0, size) for index, size in zip(chunk.indices, chunk.sizes, strict=True)]


def _chunks(found: Sequence[Found | Missing], most: int) -> list[Chunk]:
    """Blocks in chunks of at most `most` bytes, in order. A larger block is a chunk of its own; empty ones are in none."""
    chunks: list[Chunk] = []
    for index, each in enumerate(found):
        size = each.table.total() if isinstance(each, Found) else 0
        if not size:
            continue
        if chunks and chunks[-1].size + size <= most:
            chunks[-1].indices.append(index)
            chunks[-1].sizes.append(size)
            chunks[-1].size += size
        else:
            chunks.append(Chunk([index], [size], size))
    return chunks
