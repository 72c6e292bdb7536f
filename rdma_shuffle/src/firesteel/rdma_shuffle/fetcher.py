"""Fetches blocks of another node into memory or files that processes of this node can read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from firesteel.rdma_shuffle.applications import Application
from firesteel.rdma_shuffle.memory.application_memory import Allocation
from firesteel.rdma_shuffle.metrics import Metrics
from firesteel.rdma_shuffle.transport.base import Transport
from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.credits import Credits
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

MAX_CHUNK_BYTES = 16 << 20
"""Bytes that are allocated and read together: enough to fill a link, and small enough to fit a fragmented slab."""
_ANSWER_SHARE = 0.95
"""The part of a request's time that the fetch may use. The rest is for sending the answer."""


@dataclass(slots=True)
class Chunk:
    """Consecutive blocks of one allocation: their indices in the request, and their sizes."""

    indices: list[int]
    sizes: list[int]
    size: int


def local(application: Application, ranges: Sequence[Range], metrics: Metrics) -> tuple[Found | Missing, ...]:
    """Return the file extents of blocks of this node."""
    results = tuple(map(application.catalogue.locate, ranges))
    for result in results:
        if isinstance(result, Found):
            metrics.add("local_blocks")
            metrics.add("local_bytes", sum(extent.length for extent in result.extents))
    return results


class Fetcher:
    """Fetches blocks from peers, within the service's limit of bytes in flight."""

    def __init__(self, transport: Transport, metrics: Metrics, in_flight: Credits) -> None:
        self._transport, self._metrics, self.in_flight = transport, metrics, in_flight

    async def fetch(
        self, application: Application, owner: str, ranges: Sequence[Range], seconds: float
    ) -> tuple[tuple[Found | Missing, ...], list[Allocation]]:
        """Fetch blocks.

        Returns
        -------
        tuple
            The result of each range, and the allocations that hold the bytes. The caller frees them.

        Raises
        ------
        ShuffleFault
            The request as a whole failed.
        """
        deadline = asyncio.get_running_loop().time() + seconds * _ANSWER_SHARE
        try:
            async with asyncio.timeout_at(deadline):
                results = list(await self._transport.locate(owner, application.name, ranges))
        except TimeoutError:
            raise ShuffleFault(
                Reason.TIMEOUT, f"the service of {owner} did not locate the blocks within {seconds:g} s"
            ) from None
        except ShuffleFault as fault:
            if fault.reason is not Reason.UNKNOWN_APPLICATION:
                raise
            # The application is known here but not there: for the client the blocks are lost.
            results = [Missing(Reason.NOT_HERE, fault.detail)] * len(ranges)
        allocations: list[Allocation] = []
        try:
            async with asyncio.TaskGroup() as group:
                for chunk in _chunks(results, min(MAX_CHUNK_BYTES, application.memory.chunk_bytes)):
                    group.create_task(self._chunk(application, owner, ranges, results, chunk, allocations, deadline))
        except BaseException:
            for allocation in allocations:
                allocation.free()
            raise
        available = [result for result in results if isinstance(result, Found)]
        self._metrics.add("remote_blocks", len(available))
        self._metrics.add("remote_bytes", sum(extent.length for result in available for extent in result.extents))
        return tuple(results), allocations

    async def _chunk(
        self,
        application: Application,
        owner: str,
        ranges: Sequence[Range],
        results: list[Found | Missing],
        chunk: Chunk,
        allocations: list[Allocation],
        deadline: float,
    ) -> None:
        try:
            allocation = await self._filled(application, owner, _pieces(ranges, chunk), chunk.size, deadline)
        except ShuffleFault as fault:
            for index in chunk.indices:
                results[index] = Missing(fault.reason, fault.detail)
            return
        allocations.append(allocation)
        at = 0
        for index, size in zip(chunk.indices, chunk.sizes, strict=True):
            result = results[index]
            assert isinstance(result, Found)
            results[index] = Found(result.table, (allocation.extent(at, size),))
            at += size

    async def _filled(
        self, application: Application, owner: str, pieces: list[Piece], size: int, deadline: float
    ) -> Allocation:
        held = min(size, self.in_flight.size)
        late = ShuffleFault(Reason.TIMEOUT, f"the service of {owner} did not send {size} bytes in time")
        try:
            async with asyncio.timeout_at(deadline):
                await self.in_flight.take(held)
        except TimeoutError:
            raise late from None
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    allocation = await application.memory.allocate(size)
            except TimeoutError:
                raise late from None
            if allocation.path:
                self._metrics.add("spooled_bytes", size)
            await self._read(allocation, application, owner, pieces, deadline, late)
            return allocation
        finally:
            self.in_flight.give(held)

    async def _read(
        self,
        allocation: Allocation,
        application: Application,
        owner: str,
        pieces: list[Piece],
        deadline: float,
        late: ShuffleFault,
    ) -> None:
        reading = asyncio.create_task(self._transport.read(owner, application.name, pieces, allocation.view))
        try:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait({reading}, timeout=left)
        except asyncio.CancelledError:
            self._fence(allocation, reading)
            raise
        if not done:
            self._fence(allocation, reading)
            raise late
        if fault := reading.exception():
            allocation.free()
            raise fault
        allocation.filled()

    def _fence(self, allocation: Allocation, reading: asyncio.Task[None]) -> None:
        """Cancel a read. The answer does not wait for the transport to stop; the allocation is fenced until then."""
        self._metrics.add("fences")
        allocation.fence(reading)
        reading.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        reading.cancel()


def _pieces(ranges: Sequence[Range], chunk: Chunk) -> list[Piece]:
    return [Piece(ranges[index], 0, size) for index, size in zip(chunk.indices, chunk.sizes, strict=True)]


def _chunks(results: Sequence[Found | Missing], limit: int) -> list[Chunk]:
    """Group blocks into chunks of at most `limit` bytes, in order. A larger block gets its own chunk; empty ones get none."""
    chunks: list[Chunk] = []
    for index, result in enumerate(results):
        size = result.table.total() if isinstance(result, Found) else 0
        if not size:
            continue
        if chunks and chunks[-1].size + size <= limit:
            chunks[-1].indices.append(index)
            chunks[-1].sizes.append(size)
            chunks[-1].size += size
        else:
            chunks.append(Chunk([index], [size], size))
    return chunks
